// SPDX-License-Identifier: Apache-2.0
// Text of anyone in a page: hostile, broken, cut.
#include "launch/report/html.h"

#include <string>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "tests/launch/report/markup.h"

namespace conclave::launch {
namespace {

TEST(Escaped, LeavesNothingThatIsMarkup) {
  EXPECT_EQ(Escaped("</script><b a=\"x\" b='y'>&amp;"),
            "&lt;/script&gt;&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
}

TEST(Escaped, LeavesUtf8AndLineEndsAsTheyAre) {
  EXPECT_EQ(Escaped("1 \xC2\xB1 2\n\t\xF0\x9F\x98\x80"), "1 \xC2\xB1 2\n\t\xF0\x9F\x98\x80");
}

TEST(Escaped, ShowsControlCharactersAsPictures) {
  EXPECT_EQ(Escaped(std::string_view("a\0b\x1B[0m\r\x7F", 9)),
            "a\xE2\x90\x80"
            "b\xE2\x90\x9B[0m\xE2\x90\x8D\xE2\x90\xA1");
}

TEST(Escaped, ReplacesWhatIsNotUtf8) {
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(Escaped("\xFF<"), replacement + "&lt;");
  EXPECT_EQ(Escaped("a\xE2\x82"), "a" + replacement);                     // cut off
  EXPECT_EQ(Escaped("\xC2\x85\xEF\xBF\xBF"), replacement + replacement);  // a control of C1, no character
}

TEST(Escaped, MakesTextOfAnyBytes) {
  for (uint64_t trial = 0; trial < 2000; ++trial) {
    std::string bytes;
    for (uint64_t i = 0; i < 16; ++i) {
      const uint32_t draw = core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 0), i, 0)[0];
      bytes += draw % 3 == 0 ? "<>&\"'\xC2\xE2\x80\xF0]!-"[draw / 3 % 12] : static_cast<char>(draw >> 8);
    }
    const std::string page = "<p title=\"" + Escaped(bytes) + "\">" + Escaped(bytes) + "</p>";
    EXPECT_EQ(MarkupError(page), "") << trial;
  }
}

TEST(Shortened, KeepsFrontAndEndBetweenCharactersAndSaysWhatIsLeftOut) {
  EXPECT_EQ(Shortened("abc", 3), "abc");
  EXPECT_EQ(Shortened("abcdef", 3), "ab ... (3 bytes) ... f");
  EXPECT_EQ(Shortened("abcdef", 0), " ... (6 bytes) ... ");
  EXPECT_EQ(Shortened("a\xE2\x82\xAC-----\xE2\x82\xAC!", 6), "a\xE2\x82\xAC ... (5 bytes) ... \xE2\x82\xAC!");
  EXPECT_EQ(Shortened("a\xE2\x82\xAC-----\xE2\x82\xAC!", 4), "a ... (11 bytes) ... !");
  EXPECT_EQ(Shortened(std::string(10, '\x80'), 3), " ... (6 bytes) ... " + std::string(4, '\x80'));  // no character
}

TEST(MarkupError, SeesWhatIsWrong) {
  EXPECT_EQ(MarkupError("<!DOCTYPE html>\n<a b=\"c\"><br/>&lt;</a>\n"), "");
  for (const char* page :
       {"<a>", "<a></b>", "<a b=c></a>", "<a b=\"<\"></a>", "&nbsp;", "a & b", "<a\n></a>", "\x01", "\xFF"}) {
    EXPECT_NE(MarkupError(page), "") << page;
  }
}

}  // namespace
}  // namespace conclave::launch
