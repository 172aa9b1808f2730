// SPDX-License-Identifier: Apache-2.0
// From a command line to the command that it names, which its callback then knows. What is wrong in it is a usage error
// that suggests the nearest word there is.
#pragma once

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

namespace conclave::launch {

CLI::App* FindCommand(CLI::App& root, const std::string& name);  // nullptr: there is none

// There is at least one argument. Returns what --help or --version show, "" if it is neither.
absl::StatusOr<std::string> ParseArguments(int argc, char** argv, CLI::App& app);

}  // namespace conclave::launch
