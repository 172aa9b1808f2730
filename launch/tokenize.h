// SPDX-License-Identifier: Apache-2.0
// `conclave tokenize`: one command in three ways, which share options: --jsonl, --count and --train.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "launch/count_tokens.h"
#include "launch/exit_code.h"
#include "launch/tokenize_jsonl.h"
#include "launch/train_tokenizer.h"

namespace conclave::launch {

struct TokenizeOptions {
  TrainTokenizerOptions train;
  TokenizeJsonlOptions jsonl;
  CountTokensOptions count;
  std::string tokenizer = "bytes", out, field = "text";
  int threads = 0;
};

absl::StatusOr<ExitCode> Tokenize(TokenizeOptions options);

}  // namespace conclave::launch
