// SPDX-License-Identifier: Apache-2.0
// Where a command's lines go: a file that replaces an older one only when it is complete, or standard output.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"

namespace conclave::launch {

class LineSink {
 public:
  // "": standard output.
  static absl::StatusOr<LineSink> Create(const std::string& path);

  absl::Status Write(std::string_view text);
  absl::Status Finish();

 private:
  std::string path_;
  std::optional<core::OutputFile> file_;
};

}  // namespace conclave::launch
