// SPDX-License-Identifier: Apache-2.0
// Messages in turns, and the one place where they become a prompt. `generate --chat` is a conversation of one message.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/tokenizer.h"

namespace conclave::launch {

class Conversation {
 public:
  // `system`: what stands above all turns; empty: nothing. The tokenizer outlives the conversation.
  Conversation(const data::Tokenizer& tokenizer, data::ChatTemplate chat_template, std::string system);

  const data::ChatTemplate& chat_template() const { return chat_template_; }
  const std::string& system() const { return system_; }
  void SetSystem(std::string text) { system_ = std::move(text); }
  void Add(data::Role role, std::string content) { messages_.push_back({role, std::move(content)}); }
  // Back to the system message alone.
  void Reset() { messages_.clear(); }
  // Forgets the oldest message of the user and its answer; false if no answered one is left.
  bool DropOldestTurn();

  // Ids of all messages, for the model to go on with an answer.
  std::vector<int32_t> Render() const;

 private:
  const data::Tokenizer* tokenizer_;
  data::ChatTemplate chat_template_;
  std::string system_;
  std::vector<data::Message> messages_;  // user and assistant in turns
};

}  // namespace conclave::launch
