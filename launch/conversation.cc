// SPDX-License-Identifier: Apache-2.0
#include "launch/conversation.h"

#include <utility>

namespace conclave::launch {

Conversation::Conversation(const data::Tokenizer& tokenizer, data::ChatTemplate chat_template, std::string system)
    : tokenizer_(&tokenizer), chat_template_(std::move(chat_template)), system_(std::move(system)) {}

bool Conversation::DropOldestTurn() {
  constexpr int kTurn = 2;
  if (messages_.size() <= kTurn) return false;
  messages_.erase(messages_.begin(), messages_.begin() + kTurn);
  return true;
}

std::vector<int32_t> Conversation::Render() const {
  std::vector<data::Message> all;
  if (!system_.empty()) all.push_back({data::Role::kSystem, system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return chat_template_.Render(*tokenizer_, all, data::GenerationPrompt::kAdd);
}

}  // namespace conclave::launch
