// SPDX-License-Identifier: Apache-2.0
#include "core/base/utf8.h"

#include <gtest/gtest.h>

namespace conclave::core {
namespace {

TEST(Utf8, EveryCodePointIsOneCharacter) {
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    AppendUtf8(code_point, text);
    const size_t expected = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    ASSERT_EQ(text.size(), expected) << code_point;
    ASSERT_EQ(Utf8Length(text), expected) << code_point;
    ASSERT_EQ(Utf8Length(text + "x"), expected) << code_point;
    ASSERT_EQ(Utf8Length(text.substr(0, expected - 1)), 0u) << code_point;
  }
}

// As many texts of four bytes are characters as there are code points that need four, and so on: nothing else is one.
TEST(Utf8, NothingElseIsACharacter) {
  int64_t count[5] = {};
  for (uint32_t bytes = 0; bytes < (uint32_t{1} << 24); ++bytes) {
    const char text[] = {static_cast<char>(0x80 | (bytes >> 16)), static_cast<char>(bytes >> 8),
                         static_cast<char>(bytes), '\x80'};
    ++count[Utf8Length(std::string_view(text, 4))];
  }
  EXPECT_EQ(count[1], 0);                              // the first byte is 0x80 to 0xff, each of them twice
  EXPECT_EQ(count[2], 2 * (0x800 - 0x80) * 256);       // any third byte
  EXPECT_EQ(count[3], 2 * (0x10000 - 0x800 - 0x800));  // without surrogates
  EXPECT_EQ(count[4], 2 * (0x110000 - 0x10000) / 64);  // with the fourth byte fixed
  EXPECT_EQ(Utf8Length(""), 0u);
}

}  // namespace
}  // namespace conclave::core
