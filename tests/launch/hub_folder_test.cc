// SPDX-License-Identifier: Apache-2.0
// A folder in the form of the Hub goes in, is trained a little, and comes out: with its tokenizer and
// generation_config.json as they were.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "tests/data/tokenizer_cases.h"
#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

const std::string kTokenizer = CONCLAVE_SOURCE_DIR "/tests/golden/tokenizers/nfc_strip";
constexpr char kGenerationConfig[] =
    "{\"eos_token_id\": [3, 602], \"temperature\": 0.7, \"repetition_penalty\": 1.05}\n";

std::string Config(const TemporaryFolder& folder, const std::string& model, const std::string& data) {
  WriteFile(folder / "text.txt", std::string(4000, 'x') + " some words, 123 of them. And \xC3\xA9 some more. ");
  return "model: " + model + "\ndata: {train: [{path: \"" + (folder / "text.txt") + "\"}], sequence_length: 16" + data +
         "}\nbatch: {sequences: 2}\ntrain: {steps: 2}\n";
}

TEST(HubFolder, ComesOutWithItsTokenizerAndGenerationConfig) {
  const TemporaryFolder folder;
  WriteFile(folder / "first.yaml",
            Config(folder,
                   "{model_type: qwen2, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
                   "num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 64, vocab_size: 608}",
                   ", tokenizer: \"" + kTokenizer + "\""));
  Outcome outcome = RunConclave(folder, {"train", folder / "first.yaml", "run.dir=" + (folder / "first")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;

  // As somebody else's folder: weights, config, tokenizer, nothing of ours.
  const std::string hub = folder / "hub";
  std::filesystem::copy(folder / "first/checkpoints/step_2", hub, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(hub + "/optimizer");
  std::filesystem::remove(hub + "/manifest.pb");
  WriteFile(hub + "/generation_config.json", kGenerationConfig);

  WriteFile(folder / "second.yaml", Config(folder, "{from: \"" + hub + "\"}", ""));
  outcome = RunConclave(folder, {"train", folder / "second.yaml", "run.dir=" + (folder / "second")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string result = folder / "second/checkpoints/step_2";
  EXPECT_EQ(ReadFile(result + "/tokenizer.json"), ReadFile(kTokenizer + "/tokenizer.json"));
  EXPECT_EQ(ReadFile(result + "/generation_config.json"), kGenerationConfig);
  EXPECT_EQ(ReadFile(result + "/tokenizer_config.json"), ReadFile(hub + "/tokenizer_config.json"));
  EXPECT_NE(ReadFile(result + "/model.safetensors"), ReadFile(hub + "/model.safetensors"));  // it has learned

  outcome = RunConclave(folder, {"tokenize", "--tokenizer", folder / "second", "--jsonl", kTokenizer + "/cases.jsonl",
                                 "--out", folder / "out.jsonl"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto expected = data::ReadTokenizerCases(kTokenizer + "/cases.jsonl");
  const auto found = data::ReadTokenizerCases(folder / "out.jsonl");
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].ids, expected[i].ids);
    EXPECT_EQ(found[i].decoded, expected[i].decoded);
  }
  outcome = RunConclave(folder, {"generate", folder / "second", "--prompt", "some words", "--temperature", "0"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST(TokenizeJsonl, CopiesLinesThatHaveATextInput) {
  const TemporaryFolder folder;
  WriteFile(folder / "in.jsonl",
            "{\"z\": 1, \"input\": \"a<think>\\n\", \"ids\": \"old\"}\r\n\n{\"other\": 1}\n{\"input\": 5}\n");
  Outcome outcome = RunConclave(folder, {"tokenize", "--jsonl", folder / "in.jsonl"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"z\":1,\"input\":\"a<think>\\n\",\"ids\":[97,261,10],\"decoded\":\"a<think>\\n\"}\n");

  WriteFile(folder / "bad.jsonl", "{\"input\": \"a\"}\n{\"input\": \n");
  outcome = RunConclave(folder, {"tokenize", "--jsonl", folder / "bad.jsonl", "--out", folder / "bad.out"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("bad.jsonl:2:"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "bad.out"));
  EXPECT_FALSE(std::filesystem::exists(folder / "bad.out.tmp"));
}

TEST(TokenizeCount, CountsDocumentsBytesAndTokens) {
  const TemporaryFolder folder;
  WriteFile(folder / "a.jsonl", "{\"body\": \"ab\"}\n{\"body\": \"<think>\"}\n");
  const Outcome outcome = RunConclave(folder, {"tokenize", "--count", folder / "a.jsonl", "--field", "body"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("documents 2, bytes 9, tokens 7, 1.286 bytes per token"), std::string::npos)
      << outcome.out;
}

TEST(Tokenize, DoesOneThingAtATime) {
  const TemporaryFolder folder;
  EXPECT_EQ(RunConclave(folder, {"tokenize"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--jsonl", "a", "--count", "b"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--train", "a", "--out", "b"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"tokenize", "--train", "a", "--vocab-size", "300"}).code, 2);
}

}  // namespace
}  // namespace conclave::launch
