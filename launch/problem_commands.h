// SPDX-License-Identifier: Apache-2.0
// The part of the table of commands (main.cc) that is about held-out data, problems and rollouts.
#pragma once

#include "CLI/CLI.hpp"

#include "launch/command.h"
#include "launch/eval.h"
#include "launch/replay.h"
#include "launch/score.h"
#include "parallel/job.h"

namespace conclave::launch {

void AddEval(CLI::App& root, EvalOptions& options, parallel::Job& job, Command& command);
void AddReplay(CLI::App& root, ReplayOptions& options, parallel::Job& job, Command& command);
void AddScore(CLI::App& root, ScoreOptions& options, Command& command);

}  // namespace conclave::launch
