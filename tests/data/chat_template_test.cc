// SPDX-License-Identifier: Apache-2.0
#include "data/chat_template.h"

#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/byte_tokenizer.h"

namespace conclave::data {
namespace {

// ids of apply_chat_template (transformers 5.23) on a folder with Files().
TEST(ChatTemplate, GivesTheIdsOfTransformers) {
  const ByteTokenizer tokenizer;
  const std::vector<Message> turns = {{Role::kSystem, "Be."}, {Role::kUser, "1+1?"}, {Role::kAssistant, "<think>"}};
  const std::vector<int32_t> ids = {256, 66, 101, 46, 259, 49, 43, 49, 63, 260, 261, 257};
  EXPECT_EQ(RenderChat(tokenizer, turns, GenerationPrompt::kNone), ids);

  const std::vector<Message> question = {{Role::kUser, "\xF0\x9F\x98\x80<eos"}};
  const std::vector<int32_t> prompt = {256, 259, 240, 159, 152, 128, 60, 101, 111, 115, 260};
  EXPECT_EQ(RenderChat(tokenizer, question, GenerationPrompt::kAdd), prompt);
}

TEST(ChatTemplate, BeginsOnceWithBosAndEndsAnswersWithEos) {
  const ByteTokenizer tokenizer;
  const std::vector<Message> turns = {
      {Role::kUser, "a"}, {Role::kAssistant, "b"}, {Role::kUser, ""}, {Role::kAssistant, ""}};
  const std::vector<int32_t> expected = {256, 259, 'a', 260, 'b', 257, 259, 260, 257, 260};
  EXPECT_EQ(RenderChat(tokenizer, turns, GenerationPrompt::kAdd), expected);
  EXPECT_EQ(RenderChat(tokenizer, {}, GenerationPrompt::kAdd), (std::vector<int32_t>{256, 260}));
}

TEST(ChatTemplate, StandsInTheTokenizerFiles) {
  const auto config = nlohmann::json::parse(ByteTokenizer().Files().at("tokenizer_config.json"));
  EXPECT_EQ(config["chat_template"], ChatTemplateJinja());
  EXPECT_EQ(config["bos_token"], "<bos>");
  EXPECT_EQ(config["eos_token"], "<eos>");
  EXPECT_EQ(config["pad_token"], "<pad>");
}

}  // namespace
}  // namespace conclave::data
