// SPDX-License-Identifier: Apache-2.0
// `conclave eval`: what a model folder makes of held-out data. Of text files loss, perplexity and bits per byte; of
// problems the share that it solves (eval_problems.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "parallel/job.h"

namespace conclave::launch {

// What is not given is as in the run that made the folder.
struct ProblemOptions {
  std::vector<std::string> tasks;   // by name; their held-out problems
  std::vector<std::string> files;   // of problems with answers
  std::optional<int64_t> problems;  // how many
  std::optional<int64_t> samples;   // of each
  std::optional<double> temperature;
  std::optional<int64_t> max_tokens;
  std::optional<int64_t> seed;
  std::string out;  // file for the samples; "": none

  bool Any() const { return !tasks.empty() || !files.empty(); }
};

struct EvalOptions {
  std::string dir;
  std::vector<std::string> words;  // text files; with problems, changes of the config
  int64_t sequence_length = 0;     // 0: that of the run that made the folder, else at most 1024
  int64_t batch = 8;
  std::string field = "text";
  ProblemOptions problem;
  std::string tokenizer;  // "": that of the folder
  std::string precision;
  bool json = false;
  int threads = 0;
};

// With problems collective, else on one rank.
absl::StatusOr<ExitCode> Eval(const EvalOptions& options, parallel::Job& job);

}  // namespace conclave::launch
