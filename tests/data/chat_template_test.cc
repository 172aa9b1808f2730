// SPDX-License-Identifier: Apache-2.0
// Expected texts are those of jinja2 (with the settings of transformers 5.24) for the published templates.
#include "data/chat_template.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"

namespace conclave::data {
namespace {

const std::string kDeepSeekFolder = CONCLAVE_SOURCE_DIR "/../shared/data/tokenizer_deepseek_v3";

// DeepSeek's names with U+FF5C and U+2581.
#define BAR "\xEF\xBD\x9C"
#define BLANK "\xE2\x96\x81"
const std::string kBegin = "<" BAR "begin" BLANK "of" BLANK "sentence" BAR ">";
const std::string kEnd = "<" BAR "end" BLANK "of" BLANK "sentence" BAR ">";
const std::string kUser = "<" BAR "User" BAR ">", kAssistant = "<" BAR "Assistant" BAR ">";
#undef BAR
#undef BLANK
const std::vector<std::string> kDeepSeekMarkers = {kBegin, kEnd, kUser, kAssistant};
const std::vector<std::string> kLlama3Markers = {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>",
                                                 "<|end_header_id|>"};

// Jinja texts of models, as far as they tell the format.
const std::string kQwen2 =
    R"({% if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }})"
    R"({% else %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %})";
const std::string kLlama3 = "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}";
const std::string kR1 = "{{'" + kUser + "' + message['content']}}{{'" + kAssistant + "<think>\\n'}}";

const std::vector<Message> kDialogue = {{Role::kSystem, "Be brief."},
                                        {Role::kUser, " 1+1?\n"},
                                        {Role::kAssistant, "<think>one\n</think>\n\n2"},
                                        {Role::kUser, "And </think> 2+2?"}};
const std::vector<Message> kQuestion = {{Role::kUser, "Hi"}};
const std::vector<Message> kTwoSystems = {
    {Role::kUser, "a"}, {Role::kSystem, "S1"}, {Role::kAssistant, "b"}, {Role::kSystem, " S2 "}};

// Bytes, and the markers as special tokens from 256 on. The first two are bos and eos.
std::unique_ptr<BpeTokenizer> MakeTokenizer(const std::vector<std::string>& markers, const std::string& jinja) {
  BpeDescription description;
  for (int byte = 0; byte < 256; ++byte) description.tokens.emplace_back(1, static_cast<char>(byte));
  for (const std::string& marker : markers) {
    const auto id = static_cast<int32_t>(256 + description.added_tokens.size());
    description.added_tokens.push_back({.content = marker, .id = id, .special = true});
  }
  const bool named = markers.size() >= 2;
  return BpeTokenizer::Create(std::move(description),
                              {.bos_id = named ? 256 : -1, .eos_id = named ? 257 : -1, .chat_template = jinja})
      .value();
}

// The text, after a check that its ids are those of its encoding, bos at most once.
std::string Render(const Tokenizer& tokenizer, const std::string& name, const std::vector<Message>& messages,
                   GenerationPrompt prompt) {
  const auto chat = ChatTemplate::Choose(name, tokenizer);
  EXPECT_TRUE(chat.ok()) << chat.status();
  if (!chat.ok()) return "";
  std::string text;
  int num_bos = 0;
  for (const int32_t id : chat->Render(tokenizer, messages, prompt)) {
    text += tokenizer.TokenText(id);
    num_bos += id == tokenizer.bos_id();
  }
  EXPECT_LE(num_bos, 1);
  EXPECT_EQ(text, chat->RenderText(messages, prompt));
  return text;
}

std::string ErrorOf(const std::string& name, const Tokenizer& tokenizer) {
  return std::string(ChatTemplate::Choose(name, tokenizer).status().message());
}

TEST(ChatTemplate, OfDeepSeekV3EqualsItsJinjaText) {
  if (!std::filesystem::exists(kDeepSeekFolder)) GTEST_SKIP() << "no " << kDeepSeekFolder;
  const auto loaded = LoadTokenizer(kDeepSeekFolder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tokenizer& tokenizer = **loaded;
  EXPECT_EQ(ChatTemplate::Choose("auto", tokenizer)->name(), "deepseek_v3");
  const std::string history =
      kBegin + "Be brief." + kUser + " 1+1?\n" + kAssistant + "\n\n2" + kEnd + kUser + "And </think> 2+2?";
  EXPECT_EQ(Render(tokenizer, "auto", kDialogue, GenerationPrompt::kAdd), history + kAssistant);
  EXPECT_EQ(Render(tokenizer, "auto", kDialogue, GenerationPrompt::kNone), history);
  EXPECT_EQ(Render(tokenizer, "auto", kTwoSystems, GenerationPrompt::kNone),
            kBegin + "S1\n\n S2 " + kUser + "a" + kAssistant + "b" + kEnd);
  // User 128803, Assistant 128804, as published.
  EXPECT_EQ(ChatTemplate::Choose("auto", tokenizer)->Render(tokenizer, kQuestion, GenerationPrompt::kAdd),
            (std::vector<int32_t>{0, 128803, 23166, 128804}));
}

TEST(ChatTemplate, OfDeepSeekR1PrefillsThinkingAndCutsItFromHistory) {
  std::vector<std::string> markers = kDeepSeekMarkers;
  markers.push_back("<think>");
  const auto tokenizer = MakeTokenizer(markers, kR1);
  const auto chat = ChatTemplate::Choose("auto", *tokenizer);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->name(), "deepseek_r1");
  EXPECT_EQ(chat->Prefill(), "<think>\n");
  EXPECT_EQ(Render(*tokenizer, "auto", kDialogue, GenerationPrompt::kAdd),
            kBegin + "Be brief." + kUser + " 1+1?\n" + kAssistant + "\n\n2" + kEnd + kUser + "And </think> 2+2?" +
                kAssistant + "<think>\n");
  EXPECT_EQ(Render(*tokenizer, "deepseek_r1", kTwoSystems, GenerationPrompt::kNone),
            kBegin + " S2 " + kUser + "a" + kAssistant + "b" + kEnd);
  EXPECT_EQ(ChatTemplate::Choose("deepseek_v3", *tokenizer)->Prefill(), "");
}

TEST(ChatTemplate, OfQwenHasTheDefaultSystemMessageOfItsJinjaText) {
  const auto tokenizer = MakeTokenizer({"<|endoftext|>", "<|im_end|>", "<|im_start|>"}, kQwen2);
  EXPECT_EQ(Render(*tokenizer, "auto", kDialogue, GenerationPrompt::kAdd),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n 1+1?\n<|im_end|>\n<|im_start|>assistant\n"
            "<think>one\n</think>\n\n2<|im_end|>\n<|im_start|>user\nAnd </think> 2+2?<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(Render(*tokenizer, "chatml", kQuestion, GenerationPrompt::kAdd),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(Render(*tokenizer, "auto", kTwoSystems, GenerationPrompt::kNone),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>system\nS1<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>system\n S2 <|im_end|>\n");
  const auto bare = MakeTokenizer({"<|im_start|>", "<|im_end|>"}, "");
  EXPECT_EQ(ChatTemplate::Choose("chatml", *bare)->RenderText(kQuestion, GenerationPrompt::kNone),
            "<|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplate, OfLlama3TrimsContentsAndBeginsWithBosOnce) {
  const auto tokenizer = MakeTokenizer(kLlama3Markers, kLlama3);
  EXPECT_EQ(Render(*tokenizer, "auto", kDialogue, GenerationPrompt::kAdd),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n<think>one\n</think>\n\n2<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nAnd </think> 2+2?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(Render(*tokenizer, "llama3", kQuestion, GenerationPrompt::kNone),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
  const std::vector<Message> blank = {{Role::kUser, " \n"}, {Role::kUser, "\xC2\xA0x\xE3\x80\x80"}};
  EXPECT_EQ(Render(*tokenizer, "llama3", blank, GenerationPrompt::kNone),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>");
}

TEST(ChatTemplate, PlainNeedsNoMarkers) {
  const auto bare = MakeTokenizer({}, "");
  EXPECT_EQ(Render(*bare, "auto", kDialogue, GenerationPrompt::kAdd),
            "Be brief.\n\nUser:\n 1+1?\n\n\nAssistant:\n<think>one\n</think>\n\n2\n\nUser:\nAnd </think> 2+2?\n\n"
            "Assistant:\n");
  const auto with_ends = MakeTokenizer({"<s>", "</s>"}, "");
  EXPECT_EQ(Render(*with_ends, "plain", {{Role::kUser, "a"}, {Role::kAssistant, "b"}}, GenerationPrompt::kNone),
            "<s>User:\na\n\nAssistant:\nb</s>");
}

TEST(ChatTemplate, IsChosenByMarkersWhereThereIsNoJinjaText) {
  const auto name = [](const std::vector<std::string>& markers) {
    return std::string(ChatTemplate::Choose("auto", *MakeTokenizer(markers, ""))->name());
  };
  EXPECT_EQ(name(kDeepSeekMarkers), "deepseek_v3");
  EXPECT_EQ(name({"<|im_start|>", "<|im_end|>"}), "chatml");
  EXPECT_EQ(name(kLlama3Markers), "llama3");
  EXPECT_EQ(name({"<|im_start|>", "</s>"}), "plain");
  EXPECT_EQ(name({}), "plain");
}

TEST(ChatTemplate, RefusesWhatItWouldRenderWronglyAndSaysWhatToDo) {
  const std::vector<std::string> chatml = {"<|im_start|>", "<|im_end|>"};
  for (const std::string& jinja :
       {std::string("{{ '[INST]' }}"), kQwen2 + kLlama3, kQwen2 + "{% if '</think>' in content %}",
        kLlama3 + "Cutting Knowledge Date: December 2023", kR1 + "{% if thinking %}"}) {
    std::vector<std::string> markers = kDeepSeekMarkers;
    markers.insert(markers.end(), chatml.begin(), chatml.end());
    const auto tokenizer = MakeTokenizer(markers, jinja);
    EXPECT_NE(ErrorOf("auto", *tokenizer).find("choose one with chat_template: "), std::string::npos) << jinja;
    EXPECT_EQ(ErrorOf("chatml", *tokenizer), "");
  }
  EXPECT_NE(ErrorOf("llama3", *MakeTokenizer(chatml, "")).find("needs the token <|start_header_id|>"),
            std::string::npos);
  EXPECT_NE(ErrorOf("auto", *MakeTokenizer({}, kQwen2)).find("needs the token <|im_start|>"), std::string::npos);
  EXPECT_NE(ErrorOf("vicuna", ByteTokenizer()).find("there are auto, deepseek_v3, "), std::string::npos);
}

// ids of apply_chat_template (transformers 5.23) on a folder with Files().
TEST(ChatTemplate, OfBytesGivesTheIdsOfTransformers) {
  const ByteTokenizer tokenizer;
  const ChatTemplate chat = ChatTemplate::Choose("auto", tokenizer).value();
  EXPECT_EQ(chat.name(), "bytes");
  const std::vector<Message> turns = {{Role::kSystem, "Be."}, {Role::kUser, "1+1?"}, {Role::kAssistant, "<think>"}};
  const std::vector<int32_t> ids = {256, 66, 101, 46, 259, 49, 43, 49, 63, 260, 261, 257};
  EXPECT_EQ(chat.Render(tokenizer, turns, GenerationPrompt::kNone), ids);

  const std::vector<Message> question = {{Role::kUser, "\xF0\x9F\x98\x80<eos"}};
  const std::vector<int32_t> prompt = {256, 259, 240, 159, 152, 128, 60, 101, 111, 115, 260};
  EXPECT_EQ(chat.Render(tokenizer, question, GenerationPrompt::kAdd), prompt);
  EXPECT_EQ(chat.Render(tokenizer, {}, GenerationPrompt::kAdd), (std::vector<int32_t>{256, 260}));
}

TEST(ChatTemplate, StandsInTheFilesOfBytes) {
  const auto config = nlohmann::json::parse(ByteTokenizer().Files().at("tokenizer_config.json"));
  EXPECT_EQ(config["chat_template"], ChatTemplateJinja());
  EXPECT_EQ(config["bos_token"], "<bos>");
  EXPECT_EQ(config["eos_token"], "<eos>");
  EXPECT_EQ(config["pad_token"], "<pad>");
}

}  // namespace
}  // namespace conclave::data
