// SPDX-License-Identifier: Apache-2.0
// A folder under a temporary name that one process at a time fills and then renames to its final one. The lock goes
// with the process, however it ends; what a killed one left behind is used or removed by the next.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "data/load_options.h"

namespace conclave::data {

class BuildFolder {
 public:
  // Waits for another process that fills the same one; `waiting` is what is reported meanwhile.
  static absl::StatusOr<BuildFolder> Acquire(const std::string& final_path, const LoadProgress& waiting,
                                             const LoadOptions& options);
  BuildFolder(BuildFolder&& other) noexcept = default;
  ~BuildFolder();  // removes the folder unless it was published

  const std::string& path() const { return path_; }
  // Replaces what stands at the final path; durable.
  absl::Status Publish();

  // Removes the folders that killed processes left in `parent`.
  static void RemoveAbandoned(const std::string& parent);

 private:
  BuildFolder(std::string path, std::string final_path, core::FileDescriptor lock)
      : path_(std::move(path)), final_path_(std::move(final_path)), lock_(std::move(lock)) {}

  std::string path_, final_path_;
  core::FileDescriptor lock_;
};

}  // namespace conclave::data
