// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl: one JSON object per step, appended when the step is complete and before its checkpoint is written. A
// resume cuts off what comes after its checkpoint, so a killed and resumed run leaves the file of an uninterrupted one,
// times aside.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"

namespace conclave::launch {

// Shortest text that reads back to the same double; null where JSON has no number.
std::string JsonNumber(double value);

// One object on one line, fields in the order given.
class JsonLine {
 public:
  void Add(std::string_view key, double value);
  void Add(std::string_view key, int64_t value);
  void Add(std::string_view key, std::string_view text);
  void AddJson(std::string_view key, std::string_view json);
  std::string TakeObject() { return "{" + std::move(fields_) + "}"; }
  std::string Take() { return TakeObject() + "\n"; }

 private:
  std::string fields_;
};

// A file that only grows. What a full disk refuses waits in memory and goes first the next time: nothing is lost, and
// the run goes on.
class AppendFile {
 public:
  AppendFile() = default;
  // Keeps the first `keep_bytes` bytes of an existing file.
  static absl::StatusOr<AppendFile> Open(const std::string& path, int64_t keep_bytes);

  absl::Status Append(std::string_view bytes);
  absl::Status Sync();

 private:
  std::string path_, waiting_;
  core::FileDescriptor file_;
};

// Calls `use` with each whole line of a file and its number, from 1; no file has none, and a last line without an end
// is still being written.
absl::Status ForEachLine(const std::string& path,
                         const std::function<absl::Status(const std::string& line, int64_t number)>& use);

// What a metrics file says up to a step.
struct MetricsHistory {
  std::vector<double> values;  // of the figure, one per line; NaN where null
  int64_t last_step = 0;
  int64_t bytes = 0;  // of these lines
};

// Reads whole lines of ascending steps up to `through_step`; stops at the first line that is not one, or lacks the
// figure. No file: nothing.
absl::StatusOr<MetricsHistory> ReadMetrics(const std::string& path, int64_t through_step,
                                           std::string_view figure = "loss");

}  // namespace conclave::launch
