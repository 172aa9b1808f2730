// SPDX-License-Identifier: Apache-2.0
// The page configs/README.md: every command with its options, from the parser's own tree, and every config key, from
// the list that the reader walks. A test compares the file with what the program prints.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace conclave::launch {

std::string ReferencePage(const CLI::App& root);

}  // namespace conclave::launch
