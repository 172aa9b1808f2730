// SPDX-License-Identifier: Apache-2.0
// `conclave generate`: text from a model folder, token by token as it comes, or several samples at once; with --chat a
// conversation. Text goes to stdout, and how fast it came to stderr.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "launch/sampling.h"

namespace conclave::launch {

struct GenerateOptions {
  std::string dir;
  std::optional<std::string> prompt;      // none: standard input
  std::optional<std::string> prompt_ids;  // "1,2,3": no tokenizer is needed, ids are printed
  bool chat = false;                      // the prompt is a message; without one: a conversation
  std::string system;                     // message above the conversation
  std::string chat_template = "auto";     // see data/chat_template.h
  std::optional<int64_t> max_tokens;      // default: 128, in a conversation 1024
  int64_t context = 0;                    // tokens a conversation may hold; 0: at most 4096
  SamplingOptions sampling;
  std::string cache = "expanded";  // or latent
  std::string precision;
  int threads = 0;
};

absl::StatusOr<ExitCode> Generate(const GenerateOptions& options);

}  // namespace conclave::launch
