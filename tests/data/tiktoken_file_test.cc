// SPDX-License-Identifier: Apache-2.0
#include "data/tiktoken_file.h"

#include <string>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

#include "data/tokenizer.h"
#include "tests/data/temp_folder.h"
#include "tests/data/tokenizer_cases.h"

namespace conclave::data {
namespace {

std::string Line(const std::string& token, int rank) {
  return absl::Base64Escape(token) + " " + std::to_string(rank) + "\n";
}

// A vocabulary of GPT-2's size: all bytes, then pairs and a triple of them.
std::string MakeFile() {
  std::string text;
  int rank = 0;
  for (int byte = 0; byte < 256; ++byte) text += Line(std::string(1, static_cast<char>(byte)), rank++);
  text += Line("bc", rank++);   // 256
  text += Line("ab", rank++);   // 257
  text += Line("abc", rank++);  // 258
  for (int pair = 0; rank < 50256; ++pair) {
    const std::string token = {static_cast<char>(128 + pair / 256 % 128), static_cast<char>(pair % 256), 'x',
                               static_cast<char>(pair / 32768)};
    text += Line(token, rank++);
  }
  return text;
}

TEST(TiktokenFile, JoinsWhateverIsATokenLowestRankFirst) {
  const TempFolder folder;
  folder.Write("small.tiktoken", MakeFile());
  const auto tokenizer = LoadTokenizer(folder.Path(""));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(EncodeAll(**tokenizer, "abb", Parse::kText), (std::vector<int32_t>{257, 98}));
  EXPECT_EQ(EncodeAll(**tokenizer, "abcc", Parse::kText), (std::vector<int32_t>{258, 99}));  // a + bc
  EXPECT_EQ(EncodeAll(**tokenizer, "abc", Parse::kText), (std::vector<int32_t>{258}));
  EXPECT_EQ(EncodeAll(**tokenizer, "<|endoftext|>", Parse::kSpecial), (std::vector<int32_t>{50256}));
  EXPECT_EQ((*tokenizer)->eos_id(), 50256);
}

TEST(TiktokenFile, RefusesWhatIsBroken) {
  const std::string good = MakeFile();
  const struct {
    std::string text;
    const char* complaint;
  } table[] = {{good + "!!! 50256\n", "t:50257: not a token in base64"},
               {good + "YQ== 50256 7\n", "t:50257: not a token"},
               {good + "YQ==\n", "t:50257: not a token"},
               {good + "YQ== -1\n", "t:50257: not a token"},
               {good + "YQ== 99999999999999999999\n", "t:50257: not a token"},
               {good + "enp6 17\n", "t:50257: rank 17 is given twice"},
               {good + "YQ== 50256\n", "listed twice"},
               {good + "enp6eg== 50256\n", "no vocabulary of 50257 tokens is known"},
               {"YQ== 0\n", "a byte has no token"}};
  for (const auto& [text, complaint] : table) {
    const auto description = ParseTiktoken(text, "t");
    ASSERT_FALSE(description.ok()) << complaint;
    EXPECT_NE(std::string(description.status().message()).find(complaint), std::string::npos) << description.status();
  }
}

}  // namespace
}  // namespace conclave::data
