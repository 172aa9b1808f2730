// SPDX-License-Identifier: Apache-2.0
// samples.jsonl: what the model answers to the same few held-out problems, at every evaluation of a run. One line per
// evaluation, in ascending steps, as in metrics.jsonl, so a resume cuts both back by one rule.
//   {"step": 25, "samples": [{"prompt": "12+34=", "answer": "46", "response": "...", "reward": 1, "solved": true},
//   ...]}
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

#include "data/prompts.h"
#include "rl/episode.h"

namespace conclave::launch {

struct LoggedSample {
  std::string prompt, answer;  // of the problem
  std::string response;        // what rewards read
  double reward = 0;           // by the config
  bool solved = false;         // the first reward says so
};

struct SampleLogLine {
  int64_t step = 0;
  std::vector<LoggedSample> samples;
};

// The first response to each of the first three problems. `groups`: of an evaluation of these problems.
std::vector<LoggedSample> FirstSamples(std::span<const data::Prompt> problems, std::span<const rl::Group> groups);

// "[{...}, ...]"; text that is not UTF-8 is written with U+FFFD in its place.
std::string SamplesJson(std::span<const LoggedSample> samples);
// The reverse; an error if a field is missing or of another type.
absl::StatusOr<std::vector<LoggedSample>> SamplesFromJson(const nlohmann::json& list);

// With the end of the line.
std::string WriteSampleLine(const SampleLogLine& line);
// Whole lines; no file has none. Errors name file and line.
absl::StatusOr<std::vector<SampleLogLine>> ReadSampleLog(const std::string& path);

}  // namespace conclave::launch
