// SPDX-License-Identifier: Apache-2.0
#include "core/base/quoted.h"

#include "gtest/gtest.h"

namespace conclave::core {
namespace {

TEST(Quoted, KeepsLettersOfEveryScript) {
  EXPECT_EQ(Quoted("Janet\u2019s ducks, \u7b54\u6848, \U0001F986"), "'Janet\u2019s ducks, \u7b54\u6848, \U0001F986'");
}

TEST(Quoted, EscapesWhatPlaysWithATerminal) {
  EXPECT_EQ(Quoted("a\n\t\x1b[2J\"'\\"), R"('a\n\t\x1b[2J\"\'\\')");
  EXPECT_EQ(Quoted("\u0085"), R"('\xc2\x85')");        // C1: a line end
  EXPECT_EQ(Quoted("\u202ea"), R"('\xe2\x80\xaea')");  // turns the direction
  EXPECT_EQ(Quoted("\u200b"), R"('\xe2\x80\x8b')");    // no width
}

TEST(Quoted, EscapesBytesThatAreNotUtf8) {
  EXPECT_EQ(Quoted("\xff\xc3"), R"('\xff\xc3')");
  EXPECT_EQ(Quoted("\xed\xa0\x80"), R"('\xed\xa0\x80')");  // a surrogate
}

TEST(Quoted, CutsBeforeACharacter) {
  EXPECT_EQ(Quoted(std::string(120, 'a')), "'" + std::string(120, 'a') + "'");
  EXPECT_EQ(Quoted(std::string(121, 'a')), "'" + std::string(120, 'a') + "...'");
  EXPECT_EQ(Quoted(std::string(119, 'a') + "\u2019"), "'" + std::string(119, 'a') + "...'");
}

}  // namespace
}  // namespace conclave::core
