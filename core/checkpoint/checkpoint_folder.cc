// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/checkpoint_folder.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file_io.h"

namespace conclave::core {
namespace {

constexpr std::string_view kStepPrefix = "step_";
constexpr std::string_view kTemporaryPrefix = ".tmp_step_";

// A number in the one spelling that we write: "7", not "+7" or "007".
std::optional<int64_t> CanonicalNumber(std::string_view text) {
  int64_t number = 0;
  const std::string digits(text);
  if (!absl::SimpleAtoi(digits, &number) || number < 0 || absl::StrCat(number) != digits) return std::nullopt;
  return number;
}

absl::StatusOr<std::vector<std::string>> FoldersIn(const std::string& parent) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entries(parent, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (const std::filesystem::directory_iterator end; !error && entries != end; entries.increment(error)) {
    std::error_code ignored;
    if (entries->is_directory(ignored)) names.push_back(entries->path().filename().string());
  }
  if (error) return FileError(error.value(), "cannot list folder", parent);
  return names;
}

bool IsAlive(int64_t process) { return ::kill(static_cast<pid_t>(process), 0) == 0 || errno != ESRCH; }

}  // namespace

std::string PartFileName(std::string_view stem, int part, size_t shard) {
  return absl::StrFormat("%s-part%05d-%05d.safetensors", stem, part + 1, shard + 1);
}

std::string ShardFileName(std::string_view stem, size_t shard, size_t count) {
  return absl::StrFormat("%s-%05d-of-%05d.safetensors", stem, shard + 1, count);
}

std::string StepPath(const std::string& parent, int64_t step) { return absl::StrCat(parent, "/step_", step); }

std::string TemporaryPath(const std::string& parent, int64_t step) {
  return absl::StrCat(parent, "/.tmp_step_", step, "_", ::getpid());
}

bool IsTemporaryPath(const std::string& path) {
  return std::filesystem::path(path).filename().string().starts_with(kTemporaryPrefix);
}

absl::StatusOr<std::vector<std::pair<int64_t, std::string>>> ListSteps(const std::string& parent) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(parent));
  std::vector<std::pair<int64_t, std::string>> steps;
  for (const std::string_view name : names) {
    if (!name.starts_with(kStepPrefix)) continue;
    if (const auto step = CanonicalNumber(name.substr(kStepPrefix.size())))
      steps.emplace_back(*step, StepPath(parent, *step));
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

absl::Status RemoveLeftovers(const std::string& parent) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(parent));
  for (const std::string_view name : names) {
    if (!name.starts_with(kTemporaryPrefix)) continue;
    const auto process = CanonicalNumber(name.substr(name.rfind('_') + 1));
    if (!process || (*process != ::getpid() && IsAlive(*process))) continue;
    RETURN_IF_ERROR(RemoveTree(absl::StrCat(parent, "/", std::string(name))));
  }
  return absl::OkStatus();
}

}  // namespace conclave::core
