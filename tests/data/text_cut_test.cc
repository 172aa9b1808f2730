// SPDX-License-Identifier: Apache-2.0
// Pieces of a long text have the words of the whole text, for every family of patterns that we know.
#include "data/text_cut.h"

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

#include "data/known_vocabularies.h"
#include "data/word_splitter.h"

namespace conclave::data {
namespace {

// Words, numbers, marks and white space of all kinds, in random order; about `bytes` of them.
std::string RandomText(size_t bytes, uint32_t seed, std::string_view line_end) {
  const std::vector<std::string> parts = {
      "word", "Don't", "we'll", "12345", "x1",     " ",      "  ",     "\t",     ".",       "...",        "--", "\"",
      "\n ",  "\n\n",  "\r\n",  " \n",   "\u00a0", "\u4f60", "\u3042", "\u00e9", "e\u0301", "\U0001F600", "A",  "("};
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += parts[random() % parts.size()];
    if (random() % 8 == 0) text += line_end;
  }
  return text;
}

std::vector<std::string_view> Pieces(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const size_t size = FirstPiece(text, Rest::kNone);
    pieces.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return pieces;
}

class TextCut : public ::testing::TestWithParam<const char*> {};

TEST_P(TextCut, LeavesEveryWordWhole) {
  const auto rules = WordRules::Compile(*FindSplitRules(GetParam()));
  ASSERT_TRUE(rules.ok()) << rules.status();
  WordSplitter splitter(*rules);
  // Without line ends a text is cut before blanks, from 4 MiB on.
  for (const auto& [bytes, line_end] : {std::pair<size_t, const char*>{3 << 20, "\n"}, {6 << 20, ""}}) {
    std::string text = RandomText(bytes, 1, line_end);
    if (*line_end == '\0') std::erase(text, '\n');
    const std::vector<std::string_view> pieces = Pieces(text);
    ASSERT_GT(pieces.size(), 1u);
    std::vector<std::string_view> whole, in_pieces;
    splitter.Split(text, whole);
    for (const std::string_view piece : pieces) splitter.Split(piece, in_pieces);
    ASSERT_EQ(whole, in_pieces);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TextCut, ::testing::Values("gpt2", "llama3", "qwen2", "o200k", "deepseek_v3"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TextCut, DoesNotDependOnWhatComesLater) {
  const std::string text = RandomText(5 << 20, 2, "\n");
  const size_t first = FirstPiece(text, Rest::kNone);
  for (const size_t size : {first + 2, first + 1000, text.size() - 1}) {
    EXPECT_EQ(FirstPiece(std::string_view(text).substr(0, size), Rest::kFollows), first);
  }
  EXPECT_EQ(FirstPiece(std::string_view(text).substr(0, first), Rest::kFollows), 0u);  // not enough to know
}

}  // namespace
}  // namespace conclave::data
