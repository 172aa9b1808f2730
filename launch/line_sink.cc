// SPDX-License-Identifier: Apache-2.0
#include "launch/line_sink.h"

#include <stdio.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "core/base/status_macros.h"

namespace conclave::launch {

absl::StatusOr<LineSink> LineSink::Create(const std::string& path) {
  LineSink sink;
  sink.path_ = path;
  if (path.empty()) return sink;
  ASSIGN_OR_RETURN(core::OutputFile file, core::OutputFile::Create(path + ".tmp", 0));
  sink.file_.emplace(std::move(file));
  return sink;
}

absl::Status LineSink::Write(std::string_view text) {
  if (file_) return file_->Append(text.data(), static_cast<int64_t>(text.size()));
  if (fwrite(text.data(), 1, text.size(), stdout) == text.size()) return absl::OkStatus();
  return absl::UnavailableError("standard output: cannot write");
}

absl::Status LineSink::Finish() {
  if (!file_) return absl::OkStatus();
  RETURN_IF_ERROR(file_->Finish().status());
  if (::rename((path_ + ".tmp").c_str(), path_.c_str()) == 0) return absl::OkStatus();
  const int error = errno;
  core::RemoveTree(path_ + ".tmp").IgnoreError();
  return core::FileError(error, "cannot write", path_);
}

}  // namespace conclave::launch
