// SPDX-License-Identifier: Apache-2.0
#include "launch/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"

namespace conclave::launch {

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const std::to_chars_result result = std::to_chars(text, text + sizeof(text), value);
  return std::string(text, result.ptr);
}

void JsonLine::Add(std::string_view key, double value) { AddJson(key, JsonNumber(value)); }
void JsonLine::Add(std::string_view key, int64_t value) { AddJson(key, std::to_string(value)); }
void JsonLine::Add(std::string_view key, std::string_view text) {
  AddJson(key, nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void JsonLine::AddJson(std::string_view key, std::string_view json) {
  if (!fields_.empty()) fields_ += ", ";
  fields_.append("\"").append(key).append("\": ").append(json);
}

absl::StatusOr<AppendFile> AppendFile::Open(const std::string& path, int64_t keep_bytes) {
  AppendFile file;
  file.path_ = path;
  file.file_ = core::FileDescriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.file_.get() < 0) return core::FileError(errno, "cannot open", path);
  if (::ftruncate(file.file_.get(), keep_bytes) != 0) return core::FileError(errno, "cannot truncate", path);
  return file;
}

absl::Status AppendFile::Append(std::string_view bytes) {
  waiting_.append(bytes);
  while (!waiting_.empty()) {
    const ssize_t written = ::write(file_.get(), waiting_.data(), waiting_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return core::FileError(errno, "cannot append to", path_);
    waiting_.erase(0, static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status AppendFile::Sync() {
  RETURN_IF_ERROR(Append({}));
  if (::fsync(file_.get()) != 0) return core::FileError(errno, "cannot sync", path_);
  return absl::OkStatus();
}

absl::Status ForEachLine(const std::string& path,
                         const std::function<absl::Status(const std::string& line, int64_t number)>& use) {
  if (!core::FileExists(path)) return absl::OkStatus();
  std::ifstream file(path, std::ios::binary);
  if (!file) return core::FileError(errno, "cannot open", path);
  std::string line;
  for (int64_t number = 1; std::getline(file, line) && !file.eof(); ++number) RETURN_IF_ERROR(use(line, number));
  return absl::OkStatus();
}

absl::StatusOr<MetricsHistory> ReadMetrics(const std::string& path, int64_t through_step, std::string_view figure) {
  MetricsHistory history;
  if (!core::FileExists(path)) return history;
  std::ifstream file(path, std::ios::binary);
  if (!file) return core::FileError(errno, "cannot open", path);
  std::string line;
  while (std::getline(file, line) && !file.eof()) {  // eof: the last line was cut off
    const absl::StatusOr<nlohmann::json> object = core::ParseJson(line, {.name = path}, {});
    if (!object.ok() || !object->is_object()) break;
    const auto step = object->find("step"), value = object->find(figure);
    if (step == object->end() || !step->is_number_integer() || value == object->end()) break;
    if (step->get<int64_t>() <= history.last_step || step->get<int64_t>() > through_step) break;
    history.last_step = step->get<int64_t>();
    history.values.push_back(value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN());
    history.bytes += static_cast<int64_t>(line.size()) + 1;
  }
  return history;
}

}  // namespace conclave::launch
