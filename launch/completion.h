// SPDX-License-Identifier: Apache-2.0
// `conclave completion bash`: a script for the shell, made from the tree of commands and the table of keys, so it knows
// every command, flag, choice and config key without being told.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace conclave::launch {

std::string BashCompletion(const CLI::App& root);

}  // namespace conclave::launch
