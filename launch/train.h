// SPDX-License-Identifier: Apache-2.0
// `conclave train`: from a config file to a trained model folder, on one rank or many; of a file of stages to one of
// each (recipe_run.h). The same command again goes on where the last one stopped, also on other ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/exit_code.h"
#include "launch/run_folder.h"
#include "parallel/job.h"

namespace conclave::launch {

struct TrainOptions {
  std::string config;                  // path of the YAML file
  std::vector<std::string> overrides;  // "a.b=c"
  std::string stage;                   // of a file of stages this one alone; "": all
  int jobs = 1;                        // stages at a time
  int threads = 0;
  bool dry_run = false;        // print what would be trained, and stop: nothing is written
  bool profile = false;        // say where the time of some steps goes
  int64_t profile_steps = 20;  // how many
  std::string trace;           // file for what all ranks do; "": none
  bool validate_data = false;  // ValidateData instead of Train
  std::string version;         // of the program, for manifests
};

// The following are collective.

absl::StatusOr<ExitCode> Train(const TrainOptions& options, parallel::Job& job);

// Rank 0 makes and locks it, unless the run is dry.
absl::StatusOr<RunFolder> OpenRunFolder(const std::string& dir, const TrainOptions& options, parallel::Job& job);

// One run in its folder, from where it stands. StopSignals are in force, unless the run is dry.
absl::StatusOr<ExitCode> TrainIn(const RunFolder& folder, core::Config config, const TrainOptions& options,
                                 parallel::Job& job);

}  // namespace conclave::launch
