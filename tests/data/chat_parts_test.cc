// SPDX-License-Identifier: Apache-2.0
// ChatTemplate::RenderParts: which tokens of a chat are the assistant's.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/chat_template.h"
#include "data/tokenizer_json.h"
#include "tests/data/temp_folder.h"

namespace conclave::data::chat_parts {
namespace {

const std::string kShared = CONCLAVE_SOURCE_DIR "/../shared/data/";

#define BAR "\xEF\xBD\x9C"
#define BLANK "\xE2\x96\x81"
const std::string kBegin = "<" BAR "begin" BLANK "of" BLANK "sentence" BAR ">";
const std::string kEnd = "<" BAR "end" BLANK "of" BLANK "sentence" BAR ">";
const std::string kUser = "<" BAR "User" BAR ">", kAssistant = "<" BAR "Assistant" BAR ">";
#undef BAR
#undef BLANK

struct Format {
  std::string name;
  std::vector<std::string> markers;  // the first two are bos and eos
};
const Format kDeepSeekV3 = {"deepseek_v3", {kBegin, kEnd, kUser, kAssistant}};
const Format kDeepSeekR1 = {"deepseek_r1", {kBegin, kEnd, kUser, kAssistant, "<think>"}};
const Format kChatMl = {"chatml", {"<|endoftext|>", "<|im_end|>", "<|im_start|>"}};
const Format kLlama3 = {"llama3", {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"}};
const Format kPlain = {"plain", {"<s>", "</s>"}};

// The vocabulary of DeepSeek-V3, which cuts line feeds as that of Llama 3 does, with the markers of a format; null
// without the file.
std::unique_ptr<Tokenizer> MakeTokenizer(const Format& format) {
  const std::string path = kShared + "tokenizer_deepseek_v3/tokenizer.json";
  if (!std::filesystem::exists(path)) return nullptr;
  BpeDescription description = ParseTokenizerJson(ReadBytes(path), path).value().description;
  auto next = static_cast<int32_t>(description.tokens.size());
  for (const AddedToken& token : description.added_tokens) next = std::max(next, token.id + 1);
  std::vector<int32_t> ids;
  for (const std::string& marker : format.markers) {
    const auto known = std::find_if(description.added_tokens.begin(), description.added_tokens.end(),
                                    [&](const AddedToken& token) { return token.content == marker; });
    ids.push_back(known == description.added_tokens.end() ? next++ : known->id);
    if (known == description.added_tokens.end()) {
      description.added_tokens.push_back({.content = marker, .id = ids.back(), .special = marker != "<think>"});
    }
  }
  return BpeTokenizer::Create(std::move(description), {.bos_id = ids[0], .eos_id = ids[1]}).value();
}

// Made once for all tests.
const Tokenizer* WithMarkers(const Format& format) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> made;
  if (!made.contains(format.name)) made[format.name] = MakeTokenizer(format);
  return made[format.name].get();
}

std::vector<int32_t> IdsOf(const Tokenizer& tokenizer, const std::vector<ChatPart>& parts) {
  const auto encoder = tokenizer.NewEncoder();
  std::vector<int32_t> ids;
  for (const ChatPart& part : parts) encoder->EncodeRest(part.text, Parse::kSpecial, ids);
  return ids;
}

// What the assistant says, "|" between its turns.
std::string Said(const std::vector<ChatPart>& parts) {
  std::string said;
  for (const ChatPart& part : parts) {
    if (part.speaker == ChatPart::Speaker::kAssistant) said += (said.empty() ? "" : "|") + part.text;
  }
  return said;
}

std::string Text(const std::vector<ChatPart>& parts) {
  std::string text;
  for (const ChatPart& part : parts) text += part.text;
  return text;
}

// Dialogues of real questions and answers; empty without the file.
std::vector<std::vector<Message>> Dialogues() {
  std::vector<std::vector<Message>> dialogues;
  std::ifstream file(kShared + "gsm8k/test.jsonl");
  std::vector<Message> messages = {{Role::kSystem, "Answer with a number."}};
  for (std::string line; std::getline(file, line) && dialogues.size() < 100;) {
    const auto object = nlohmann::json::parse(line);
    messages.push_back({Role::kUser, object["question"]});
    messages.push_back({Role::kAssistant, object["answer"]});
    if (messages.size() < 4) continue;
    dialogues.push_back(messages);
    messages.resize(dialogues.size() % 2);  // every other one without a system message
  }
  return dialogues;
}

const std::vector<Message> kTurns = {{Role::kSystem, "S"},
                                     {Role::kUser, "u1"},
                                     {Role::kAssistant, "<think>a</think>one"},
                                     {Role::kUser, "u2"},
                                     {Role::kAssistant, "<think>b</think>two"}};

TEST(ChatParts, OfTheAssistantAreItsAnswersWithTheTokensThatEndThem) {
  if (WithMarkers(kPlain) == nullptr) GTEST_SKIP() << "no " << kShared;
  const auto said = [](const Format& format) {
    const Tokenizer* tokenizer = WithMarkers(format);
    return Said(ChatTemplate::Choose(format.name, *tokenizer)->RenderParts(kTurns));
  };
  EXPECT_EQ(said(kDeepSeekV3), "one" + kEnd + "|<think>b</think>two" + kEnd) << "only the last thinking stays";
  EXPECT_EQ(said(kDeepSeekR1), "one" + kEnd + "|b</think>two" + kEnd) << "what the prompt begins is not learned";
  EXPECT_EQ(said(kChatMl), "<think>a</think>one<|im_end|>|<think>b</think>two<|im_end|>");
  EXPECT_EQ(said(kLlama3), "<think>a</think>one<|eot_id|>|<think>b</think>two<|eot_id|>");
  EXPECT_EQ(said(kPlain), "<think>a</think>one</s>|<think>b</think>two</s>");
  EXPECT_EQ(Said(ChatTemplate::Choose("bytes", ByteTokenizer())->RenderParts(kTurns)),
            "<think>a</think>one<eos>|<think>b</think>two<eos>");
}

TEST(ChatParts, OfDeepSeekR1BeginBehindThePrefill) {
  const Tokenizer* tokenizer = WithMarkers(kDeepSeekR1);
  if (tokenizer == nullptr) GTEST_SKIP() << "no " << kShared;
  const ChatTemplate chat = *ChatTemplate::Choose("deepseek_r1", *tokenizer);
  const auto parts = [&](const std::string& answer) {
    const std::vector<Message> messages = {{Role::kUser, "u"}, {Role::kAssistant, answer}};
    return chat.RenderParts(messages);
  };
  EXPECT_EQ(Said(parts("<think>\nb\n</think>two")), "b\n</think>two" + kEnd);
  EXPECT_EQ(Text(parts("<think>b</think>two")), kBegin + kUser + "u" + kAssistant + "<think>\nb</think>two" + kEnd);
  EXPECT_EQ(Text(parts("two")), kBegin + kUser + "u" + kAssistant + "two" + kEnd);
}

TEST(ChatParts, GiveTheIdsOfTheWholeText) {
  const std::vector<std::vector<Message>> dialogues = Dialogues();
  if (dialogues.empty()) GTEST_SKIP() << "no " << kShared;
  const ByteTokenizer bytes;
  const auto gpt2 = LoadTokenizer(kShared + "tokenizer_gpt2/tokenizer.json").value();
  std::vector<std::pair<std::string, const Tokenizer*>> formats = {{"bytes", &bytes}, {"plain", gpt2.get()}};
  for (const Format& format : {kDeepSeekV3, kDeepSeekR1, kChatMl, kLlama3, kPlain}) {
    formats.emplace_back(format.name, WithMarkers(format));
  }
  for (const auto& [name, tokenizer] : formats) {
    const ChatTemplate chat = *ChatTemplate::Choose(name, *tokenizer);
    for (const std::vector<Message>& dialogue : dialogues) {
      const std::vector<ChatPart> parts = chat.RenderParts(dialogue);
      ASSERT_EQ(Text(parts), chat.RenderText(dialogue, GenerationPrompt::kNone));
      const std::vector<int32_t> ids = IdsOf(*tokenizer, parts);
      ASSERT_EQ(ids, chat.Render(*tokenizer, dialogue, GenerationPrompt::kNone)) << name;
    }
  }
}

TEST(ChatParts, BeginWithTheIdsOfThePromptWhateverTheAnswer) {
  if (WithMarkers(kPlain) == nullptr) GTEST_SKIP() << "no " << kShared;
  for (const Format& format : {kDeepSeekV3, kDeepSeekR1, kChatMl, kLlama3, kPlain}) {
    const Tokenizer* tokenizer = WithMarkers(format);
    const ChatTemplate chat = *ChatTemplate::Choose(format.name, *tokenizer);
    for (const char* answer : {"<think>b</think>two", "<think>\n\nb", "<think> b"}) {
      std::vector<Message> messages = {{Role::kUser, "u"}, {Role::kAssistant, answer}};
      const std::vector<int32_t> ids = IdsOf(*tokenizer, chat.RenderParts(messages));
      messages.pop_back();
      const std::vector<int32_t> prompt = chat.Render(*tokenizer, messages, GenerationPrompt::kAdd);
      ASSERT_LT(prompt.size(), ids.size());
      EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.begin() + static_cast<int64_t>(prompt.size())), prompt)
          << format.name << " " << answer;
    }
  }
}

}  // namespace
}  // namespace conclave::data::chat_parts
