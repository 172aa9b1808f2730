// SPDX-License-Identifier: Apache-2.0
// `conclave train`: from a config file to a trained model folder, on one rank or many. The same command again goes on
// where the last one stopped, also on other ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "parallel/job.h"

namespace conclave::launch {

struct TrainOptions {
  std::string config;                  // path of the YAML file
  std::vector<std::string> overrides;  // "a.b=c"
  int threads = 0;
  bool dry_run = false;        // print what would be trained, and stop: nothing is written
  bool profile = false;        // say where the time of some steps goes
  int64_t profile_steps = 20;  // how many
  std::string trace;           // file for what all ranks do; "": none
  bool validate_data = false;  // ValidateData instead of Train
  std::string version;         // of the program, for manifests
};

// Collective.
absl::StatusOr<ExitCode> Train(const TrainOptions& options, parallel::Job& job);

}  // namespace conclave::launch
