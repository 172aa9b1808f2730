// SPDX-License-Identifier: Apache-2.0
// One entry of the token cache: a pair of token files and tokens.json, which says what they must be. Sizes and the .idx
// are checked whenever an entry is opened; the .bin once, and again when its size, time or inode changed since.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "data/content_index.h"
#include "data/load_options.h"
#include "data/token_file.h"

namespace conclave::data {

struct EntryInfo {
  int64_t num_files = 0, num_documents = 0, num_empty_documents = 0, text_bytes = 0;
  core::WrittenFile idx, bin;
  FileStamp bin_stamp;  // when its checksum was last seen to be right
};

struct Entry {
  EntryInfo info;
  TokenFile tokens;
};

// NotFound if there is no folder; any other error is damage, or Cancelled.
absl::StatusOr<Entry> OpenEntry(const std::string& path, const std::string& source, const LoadOptions& options);

// Replaces tokens.json at one instant.
absl::Status WriteEntryInfo(const std::string& path, const EntryInfo& info);

}  // namespace conclave::data
