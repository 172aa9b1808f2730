// SPDX-License-Identifier: Apache-2.0
// Which files a source's path means: a file, a folder (all text files below it) or a glob pattern; and how each is
// read, which its name says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::data {

class TaskDocuments;

enum class FileFormat { kText, kJsonLines, kTokens };  // one document; one per line; a Megatron .bin/.idx pair

struct SourceFile {
  std::string path;  // kTokens: without its ending
  FileFormat format = FileFormat::kText;
  int64_t bytes = 0;                         // as stored; kTokens: of the .bin
  const TaskDocuments* documents = nullptr;  // made instead of read: then the path is a name, and bytes count them
};

// In the order of their paths, never empty. A pair of token files stands alone.
absl::StatusOr<std::vector<SourceFile>> ListSourceFiles(const std::string& path);

}  // namespace conclave::data
