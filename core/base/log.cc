// SPDX-License-Identifier: Apache-2.0
#include "core/base/log.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <string>

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

void WriteFully(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // a closed stderr must not stop a run
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

void WriteRecord(std::string_view level, std::string_view text) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string line = absl::StrFormat("%02d:%02d:%02d %s%s", local.tm_hour, local.tm_min, local.tm_sec, level, text);
  while (line.back() == '\n') line.pop_back();
  for (char& c : line) {
    if (c == '\n') c = ' ';  // a record stays one line: grep and log collectors see all of it
  }
  line += '\n';
  WriteFully(STDERR_FILENO, line);
}

}  // namespace

void LogInfo(std::string_view text) { WriteRecord("", text); }
void LogWarning(std::string_view text) { WriteRecord("warning: ", text); }
void LogError(std::string_view text) { WriteRecord("error: ", text); }

}  // namespace conclave::core
