// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "data/byte_tokenizer.h"

namespace conclave::data {
namespace {

#define REPLACEMENT "\xEF\xBF\xBD"

// What each push of one byte gives, and the end.
std::vector<std::string> Stream(std::string_view bytes) {
  const ByteTokenizer tokenizer;
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> pieces;
  for (const char byte : bytes) pieces.push_back(decoder.Push(static_cast<unsigned char>(byte)));
  pieces.push_back(decoder.Finish());
  return pieces;
}

std::string Join(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

TEST(StreamDecoder, HoldsBackAnEmojiUntilItIsWhole) {
  const std::vector<std::string> pieces = {"a", "", "", "", "\xF0\x9F\x98\x80", "b", ""};
  EXPECT_EQ(Stream("a\xF0\x9F\x98\x80"
                   "b"),
            pieces);
}

TEST(StreamDecoder, ReplacesBrokenBytesAsPythonDoes) {
  // bytes.decode("utf-8", errors="replace") of Python 3.11.
  const std::vector<std::pair<std::string, std::string>> golden = {
      {"\xF0\x9F\x98"
       "A",
       REPLACEMENT "A"},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80\xFF\xE2", REPLACEMENT "\xF0\x9F\x98\x80" REPLACEMENT REPLACEMENT},
      {"\xC0\xAF", REPLACEMENT REPLACEMENT},                                  // overlong
      {"\xE0\x80\xAF", REPLACEMENT REPLACEMENT REPLACEMENT},                  // overlong
      {"\xED\xA0\x80", REPLACEMENT REPLACEMENT REPLACEMENT},                  // a surrogate
      {"\xF4\x90\x80\x80", REPLACEMENT REPLACEMENT REPLACEMENT REPLACEMENT},  // beyond U+10FFFF
      {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
      {"\xF5\x80", REPLACEMENT REPLACEMENT},
      {"\xE2\x82", REPLACEMENT},
      {"\x80\xBF", REPLACEMENT REPLACEMENT},
  };
  for (const auto& [bytes, text] : golden) EXPECT_EQ(Join(Stream(bytes)), text);
}

TEST(StreamDecoder, PassesSpecialTokensOverEvenInsideACharacter) {
  const ByteTokenizer tokenizer;
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : {256, 0xC3, 259, 0xA9, 261, 120, 257}) text += decoder.Push(id);
  EXPECT_EQ(text + decoder.Finish(), "\xC3\xA9<think>x");
}

TEST(StreamDecoder, GivesValidTextBackUnchangedAndNeverWaitsLongerThanThreeBytes) {
  for (uint32_t code_point = 1; code_point < 0x110000; code_point += 211) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    if (code_point < 0x80) {
      text = {static_cast<char>(code_point)};
    } else if (code_point < 0x800) {
      text = {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 63))};
    } else if (code_point < 0x10000) {
      text = {static_cast<char>(0xE0 | code_point >> 12), static_cast<char>(0x80 | (code_point >> 6 & 63)),
              static_cast<char>(0x80 | (code_point & 63))};
    } else {
      text = {static_cast<char>(0xF0 | code_point >> 18), static_cast<char>(0x80 | (code_point >> 12 & 63)),
              static_cast<char>(0x80 | (code_point >> 6 & 63)), static_cast<char>(0x80 | (code_point & 63))};
    }
    const std::vector<std::string> pieces = Stream(text);
    ASSERT_EQ(pieces[text.size() - 1], text) << code_point;
  }
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const ByteTokenizer tokenizer;
    StreamDecoder decoder(tokenizer);
    int silent = 0;
    for (uint64_t i = 0; i < 50; ++i) {
      const uint32_t byte = core::Philox(seed, i, 0)[0] % 192 + 64;  // mostly not ASCII
      silent = decoder.Push(static_cast<int32_t>(byte)).empty() ? silent + 1 : 0;
      ASSERT_LE(silent, 3);
    }
  }
}

}  // namespace
}  // namespace conclave::data
