// SPDX-License-Identifier: Apache-2.0
// A conversation with a model in a terminal, or line by line through pipes. Answers go to stdout and nothing else does:
// the prompt and what the program itself has to say go to stderr.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "launch/conversation.h"
#include "launch/exit_code.h"
#include "launch/sampling.h"

namespace conclave::launch {

class Chat {
 public:
  // Answers are cut after `max_tokens`. Tokenizer and sampling outlive the chat.
  Chat(const data::Tokenizer& tokenizer, data::ChatTemplate chat_template, Sampling& sampling, std::string system,
       int64_t max_tokens);

  // Until the end of stdin, or /exit. A message that a terminal sends and that cannot be answered is said to be so;
  // from a pipe it ends the program.
  absl::StatusOr<ExitCode> Run();

 private:
  enum class Next { kGoOn, kLeave };
  Next RunCommand(const std::string& line);
  absl::Status Answer(const std::string& message);
  // The prompt of a conversation that ends with `message`, without its oldest turns if need be.
  absl::StatusOr<std::vector<int32_t>> PromptFor(const std::string& message);

  const data::Tokenizer& tokenizer_;
  Sampling& sampling_;
  Conversation conversation_;
  const int64_t max_tokens_;
  const bool terminal_;  // a person types
};

}  // namespace conclave::launch
