// SPDX-License-Identifier: Apache-2.0
// The template twice: in C++, and as Jinja for other programs. A test holds ids that transformers gave for the Jinja
// text.
#include "data/chat_template.h"

#include <string_view>

namespace conclave::data {
namespace {

constexpr std::string_view kBegin = "<bos>", kEnd = "<eos>", kUser = "<|User|>", kAssistant = "<|Assistant|>";

std::string RenderText(std::span<const Message> messages, GenerationPrompt prompt) {
  std::string text(kBegin);
  for (const Message& message : messages) {
    switch (message.role) {
      case Role::kSystem:
        text.append(message.content);
        break;
      case Role::kUser:
        text.append(kUser).append(message.content);
        break;
      case Role::kAssistant:
        text.append(kAssistant).append(message.content).append(kEnd);
        break;
    }
  }
  if (prompt == GenerationPrompt::kAdd) text.append(kAssistant);
  return text;
}

}  // namespace

std::vector<int32_t> RenderChat(const Tokenizer& tokenizer, std::span<const Message> messages,
                                GenerationPrompt prompt) {
  std::vector<int32_t> ids;
  tokenizer.Encode(RenderText(messages, prompt), Tokenizer::Parse::kSpecial, ids);
  return ids;
}

std::string ChatTemplateJinja() {
  return "{{ '<bos>' }}"
         "{% for message in messages %}"
         "{% if message['role'] == 'system' %}{{ message['content'] }}"
         "{% elif message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
         "{% elif message['role'] == 'assistant' %}{{ '<|Assistant|>' + message['content'] + '<eos>' }}"
         "{% else %}{{ raise_exception('unknown role: ' + message['role']) }}"
         "{% endif %}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}";
}

}  // namespace conclave::data
