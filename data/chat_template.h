// SPDX-License-Identifier: Apache-2.0
// A conversation as one prompt: <bos>, then per message <|User|>content or <|Assistant|>content<eos>; a system message
// stands bare, as in DeepSeek-V3. The same template goes into tokenizer_config.json as Jinja, so that
// apply_chat_template of transformers gives the same ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace conclave::data {

enum class Role { kSystem, kUser, kAssistant };
enum class GenerationPrompt { kNone, kAdd };  // kAdd: ends with <|Assistant|>, for the model to go on

struct Message {
  Role role = Role::kUser;
  std::string content;
};

// Ids of the rendered text. Names of special tokens inside of a content are recognised, as transformers does: callers
// that take contents from strangers filter them before.
std::vector<int32_t> RenderChat(const Tokenizer& tokenizer, std::span<const Message> messages, GenerationPrompt prompt);

std::string ChatTemplateJinja();

}  // namespace conclave::data
