// SPDX-License-Identifier: Apache-2.0
// What the files of a source contain, as checksums. A small file in the cache folder remembers them with each file's
// size, time and inode, so a second start reads none of the data. A file changed less than two seconds before it was
// looked at is not remembered: it may change again within the same tick of its clock.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/load_options.h"
#include "data/source_files.h"

namespace conclave::data {

// Changes whenever a file's bytes do, as far as the system tells.
struct FileStamp {
  int64_t bytes = -1, mtime_ns = -1;
  uint64_t inode = 0;

  static absl::StatusOr<FileStamp> Of(const std::string& path);
  bool operator==(const FileStamp&) const = default;
};

struct FileContent {
  std::string checksum;     // XXH3-128 of the bytes as stored
  int64_t largest_id = -1;  // kTokens; -1: not a single token
};

// In the order of the files; of a pair of token files one entry, over both. `cache` may be "", or not writable: then
// nothing is remembered. An id that is negative or above 2^31 - 1 is an error.
absl::StatusOr<std::vector<FileContent>> ReadContents(std::span<const SourceFile> files, const std::string& source,
                                                      const std::string& cache, const LoadOptions& options);

// Of a pair of token files one stamp over both.
absl::StatusOr<FileStamp> StampOf(const SourceFile& file);

// XXH3-128 of a file, with reports.
absl::StatusOr<std::string> ChecksumOf(const std::string& path, LoadProgress& progress, const LoadOptions& options);

}  // namespace conclave::data
