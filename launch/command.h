// SPDX-License-Identifier: Apache-2.0
// What the tables of commands share (main.cc, problem_commands.cc): what a command line has chosen to run, and options
// that several commands have.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "launch/option_checks.h"

namespace conclave::launch {

struct Command {
  enum class Ranks { kOne, kMany };
  std::function<absl::StatusOr<ExitCode>()> run;
  Ranks ranks = Ranks::kOne;
};

inline void AddThreads(CLI::App& app, int& threads,
                       const char* help = "threads; 0 = all processors. Never changes a bit") {
  app.add_option("--threads", threads, help)->type_name("N")->capture_default_str()->check(Within<int64_t>(0, 1024));
}

inline void AddPrecision(CLI::App& app, std::string& precision, const char* help) {
  AddChoices(*app.add_option("--precision", precision, help), {"f32", "bf16"});
}

inline void AddFolder(CLI::App& app, std::string& dir, const char* help) {
  app.add_option("DIR", dir, help)->required()->type_name(kFolder);
}

inline constexpr char kAnyFolder[] = "model folder, or a run folder (its newest checkpoint)";

}  // namespace conclave::launch
