// SPDX-License-Identifier: Apache-2.0
// `conclave tokenize --train` as a user meets it.
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/tokenizer.h"
#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the cat number " + std::to_string(i * i) + " sat on the mat<|endoftext|>";
  return text;
}

TEST(TokenizeTrain, WritesAFolderThatEncodesAndDecodes) {
  const TemporaryFolder folder;
  WriteFile(folder / "a.txt", SomeText());
  const Outcome outcome =
      RunConclave(folder, {"tokenize", "--train", folder / "a.txt", "--vocab-size", "300", "--special", "<|endoftext|>",
                           "<|pad|>", "--out", folder / "new/tokenizer"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "300 tokens: 2 special, 256 bytes, 42 merges")) << outcome.out;

  const auto tokenizer = data::LoadTokenizer(folder / "new/tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 300);
  EXPECT_EQ((*tokenizer)->eos_id(), 0);
  std::vector<int32_t> ids;
  (*tokenizer)->Encode("the cat<|endoftext|> sat \xE2\x82\xAC", data::Parse::kSpecial, ids);
  EXPECT_EQ(data::Decode(**tokenizer, ids), "the cat sat \xE2\x82\xAC");
  EXPECT_LT(ids.size(), 12u);

  const auto vocabulary = nlohmann::json::parse(ReadFile(folder / "new/tokenizer/vocab.json"));
  EXPECT_EQ(vocabulary.size(), 300u);
  EXPECT_EQ(vocabulary["<|pad|>"], 1);
  EXPECT_TRUE(ReadFile(folder / "new/tokenizer/merges.txt").starts_with("#version"));
  EXPECT_EQ(nlohmann::json::parse(ReadFile(folder / "new/tokenizer/tokenizer_config.json"))["eos_token"],
            "<|endoftext|>");
  EXPECT_TRUE(std::filesystem::exists(folder / "new/tokenizer/special_tokens_map.json"));
}

TEST(TokenizeTrain, SaysWhenTextHasFewerTokensThanAsked) {
  const TemporaryFolder folder;
  WriteFile(folder / "a.txt", "ab ab");
  const Outcome outcome =
      RunConclave(folder, {"tokenize", "--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "t"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(Contains(outcome.err, "stopped at 259 of 300 tokens")) << outcome.err;
}

TEST(TokenizeTrain, RefusesWhatCannotWorkWithTheReason) {
  const TemporaryFolder folder;
  WriteFile(folder / "a.txt", SomeText());
  WriteFile(folder / "only.txt", "<|endoftext|>");
  WriteFile(folder / "file", "");
  std::filesystem::create_directory(folder / "used");
  WriteFile(folder / "used/tokenizer.json", "{}");
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{"--train", folder / "a.txt", "--vocab-size", "256", "--out", folder / "t"}, "at least 257"},
      {{"--train", folder / "absent.txt", "--vocab-size", "300", "--out", folder / "t"}, "absent.txt"},
      {{"--train", folder / "only.txt", "--vocab-size", "300", "--out", folder / "t"}, "no text"},
      {{"--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "file/t"}, "file"},
      {{"--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "used"}, "is there already"},
      {{"--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "t", "--pattern", "gtp2"}, "gpt2, "},
      {{"--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "t", "--pattern", "(a"}, "(a"},
      {{"--train", folder / "a.txt", "--vocab-size", "300", "--out", folder / "t", "--special", "x"}, "\"x\""},
  };
  for (const Case& bad : cases) {
    std::vector<std::string> arguments = {"tokenize"};
    arguments.insert(arguments.end(), bad.arguments.begin(), bad.arguments.end());
    const Outcome outcome = RunConclave(folder, arguments);
    EXPECT_EQ(outcome.code, 1) << bad.message;
    EXPECT_TRUE(Contains(outcome.err, bad.message)) << outcome.err;
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "t/tokenizer.json"));
  EXPECT_EQ(ReadFile(folder / "used/tokenizer.json"), "{}");
}

TEST(TokenizeTrain, WithoutFilesSizeOrFolderIsWrongUsage) {
  const TemporaryFolder folder;
  EXPECT_EQ(RunConclave(folder, {"tokenize"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--train", "a", "--out", "t"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--train", "a", "--vocab-size", "300"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--train", "a", "--vocab-size", "many", "--out", "t"}).code, 2);
}

}  // namespace
}  // namespace conclave::launch
