// SPDX-License-Identifier: Apache-2.0
#include "launch/tokenize.h"

#include "launch/usage_error.h"

namespace conclave::launch {

absl::StatusOr<ExitCode> Tokenize(TokenizeOptions options) {
  const int num_ways = !options.train.files.empty() + !options.jsonl.jsonl.empty() + !options.count.paths.empty();
  if (num_ways != 1) return UsageError("give one of --jsonl, --count and --train");
  if (!options.jsonl.jsonl.empty()) {
    options.jsonl.tokenizer = options.tokenizer;
    options.jsonl.out = options.out;
    return TokenizeJsonl(options.jsonl);
  }
  if (!options.count.paths.empty()) {
    options.count.tokenizer = options.tokenizer;
    options.count.format.field = options.field;
    options.count.threads = options.threads;
    return CountTokens(options.count);
  }
  if (options.out.empty()) return UsageError("--train: give --out, the folder of the new tokenizer");
  if (options.train.vocab_size == 0) return UsageError("--train: give --vocab-size");
  options.train.out = options.out;
  options.train.field = options.field;
  options.train.threads = options.threads;
  return TrainTokenizer(options.train);
}

}  // namespace conclave::launch
