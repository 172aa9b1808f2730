// SPDX-License-Identifier: Apache-2.0
#include "core/base/log.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <string>

#include "absl/strings/str_format.h"

#include "core/base/terminal.h"

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
  std::string record(text);
  while (!record.empty() && record.back() == '\n') record.pop_back();
  for (char& c : record) {
    if (c == '\n') c = ' ';  // a record stays one line: grep and log collectors see all of it
  }
  WriteFully(STDERR_FILENO,
             absl::StrFormat("%02d:%02d:%02d %s%s\n", local.tm_hour, local.tm_min, local.tm_sec, level, record));
}

}  // namespace

void LogInfo(std::string_view text) { WriteRecord("", text); }
void LogWarning(std::string_view text) { WriteRecord(Styled(STDERR_FILENO, Style::kYellow, "warning: "), text); }
void LogError(std::string_view text) { WriteRecord(Styled(STDERR_FILENO, Style::kRed, "error: "), text); }

}  // namespace conclave::core
