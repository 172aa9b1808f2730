// SPDX-License-Identifier: Apache-2.0
#include "rl/rollout_store.h"

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"

namespace conclave::rl {
namespace {

constexpr int64_t kMaxBytes = int64_t{4} << 30;

std::string Header(const std::string& key) { return absl::StrFormat("{\"rollouts\": 1, \"key\": \"%s\"}\n", key); }

}  // namespace

std::string RolloutStore::PathOf(int64_t step) const { return absl::StrFormat("%s/step_%d.jsonl", dir_, step); }

absl::StatusOr<std::string> RolloutStore::LoadAny(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, core::ReadTextFile(path, kMaxBytes));
  const size_t end = text.find('\n');
  if (!text.starts_with("{\"rollouts\": 1") || end == std::string::npos) {
    return absl::DataLossError(path + ": is not a file of rollouts; delete it to have them drawn anew");
  }
  return text.substr(end + 1);
}

absl::StatusOr<std::optional<std::string>> RolloutStore::Load(int64_t step) const {
  const std::string path = PathOf(step);
  if (!core::FileExists(path)) return std::nullopt;
  ASSIGN_OR_RETURN(std::string text, core::ReadTextFile(path, kMaxBytes));
  const std::string header = Header(key_);
  if (!text.starts_with(header)) return std::nullopt;
  return text.substr(header.size());
}

absl::Status RolloutStore::Save(int64_t step, std::string_view lines) const {
  RETURN_IF_ERROR(core::MakeDirectories(dir_));
  return core::ReplaceTextFile(PathOf(step), Header(key_) + std::string(lines));
}

}  // namespace conclave::rl
