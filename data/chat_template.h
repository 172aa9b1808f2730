// SPDX-License-Identifier: Apache-2.0
// A conversation as one prompt, in the formats that models were trained with. The Jinja text that comes with a
// tokenizer is recognised by the markers it names and never executed; what is rendered equals apply_chat_template of
// transformers.
//
//   deepseek_v3  <bos>SYSTEM<User>...<Assistant>...<eos>      thinking is cut out of earlier answers
//   deepseek_r1  the same, of the last system message; the prompt ends in <think> and a line feed
//   chatml       <|im_start|>ROLE\n...<|im_end|>\n            with the default system message of its Jinja text (Qwen)
//   llama3       <|begin_of_text|><|start_header_id|>ROLE<|end_header_id|>\n\n...<|eot_id|>
//   bytes        <bos>SYSTEM<|User|>...<|Assistant|>...<eos>  of the built-in tokenizer; thinking stays
//   plain        User:\n...\n\nAssistant:\n...                for tokenizers without markers
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "data/tokenizer.h"

namespace conclave::data {

enum class Role { kSystem, kUser, kAssistant };
enum class GenerationPrompt { kNone, kAdd };  // kAdd: ends where the assistant goes on

struct Message {
  Role role = Role::kUser;
  std::string content;
};

// A stretch of a rendered chat. The assistant's are its contents with the token that ends them; headers are others'.
struct ChatPart {
  enum class Speaker { kAssistant, kOthers };
  Speaker speaker;
  std::string text;
};

class ChatTemplate {
 public:
  // `name`: one of the list above, or "auto": that of the tokenizer's Jinja text, else that whose markers the tokenizer
  // has, else plain. An error if the text is not one of these, or a marker is not a token.
  static absl::StatusOr<ChatTemplate> Choose(std::string_view name, const Tokenizer& tokenizer);

  std::string_view name() const;

  // Names of special tokens inside of a content are recognised, as transformers does: callers that take contents from
  // strangers filter them before.
  std::vector<int32_t> Render(const Tokenizer& tokenizer, std::span<const Message> messages,
                              GenerationPrompt prompt) const;
  std::string RenderText(std::span<const Message> messages, GenerationPrompt prompt) const;

  // The chat as a model learns from it: cut where the assistant begins and ends to speak. The thinking of its last
  // answer stays also where the format cuts that out; what a prompt would begin of it (Prefill) is not the assistant's.
  // Encoded one by one, parts have the ids of generation, which ends a prompt there. These are the ids of the whole
  // text wherever the tokenizer cuts between header and answer, as those made for a format do.
  std::vector<ChatPart> RenderParts(std::span<const Message> messages) const;

  // What the prompt begins of the answer itself: "<think>\n" or nothing.
  std::string_view Prefill() const;

 private:
  enum class Format { kDeepSeekV3, kDeepSeekR1, kChatMl, kLlama3, kBytes, kPlain };
  struct Known;
  static const Known kKnown[];

  static const Known& Find(Format format);
  static absl::StatusOr<ChatTemplate> Recognise(std::string_view jinja);
  static Format FormatByMarkers(const Tokenizer& tokenizer);
  absl::Status CheckMarkers(const Tokenizer& tokenizer) const;

  enum class LastThinking { kAsFormat, kStays };
  class Parts;
  std::vector<ChatPart> RenderTurns(std::span<const Message> messages, LastThinking thinking) const;
  void RenderDeepSeek(std::span<const Message> messages, LastThinking thinking, Parts& parts) const;
  void RenderChatMl(std::span<const Message> messages, Parts& parts) const;
  void RenderLlama3(std::span<const Message> messages, Parts& parts) const;
  void RenderBytes(std::span<const Message> messages, Parts& parts) const;
  void RenderPlain(std::span<const Message> messages, Parts& parts) const;

  Format format_ = Format::kPlain;
  std::string default_system_;  // chatml: where no message is one
  std::string begin_, end_;     // plain: texts of bos and eos, "" if there is none
};

// The format `bytes` as Jinja, for tokenizer_config.json.
std::string ChatTemplateJinja();

}  // namespace conclave::data
