// SPDX-License-Identifier: Apache-2.0
#include "launch/stage_inputs.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "launch/model_loading.h"

namespace conclave::launch {
namespace {

constexpr int64_t kPieces = 64, kPieceBytes = int64_t{1} << 16;
constexpr int64_t kMaxInputsBytes = 1 << 16;

// Pieces all over a file: training moves every weight, and a model may be as large as a disk.
absl::Status AddFile(const std::string& path, core::Hasher& hasher) {
  ASSIGN_OR_RETURN(const core::InputFile file, core::InputFile::Open(path));
  const std::string name = absl::StrFormat("%s %d\n", std::filesystem::path(path).filename().string(), file.size());
  hasher.Update(name.data(), name.size());
  std::vector<char> piece;
  const int64_t stride = std::max(file.size() / kPieces, kPieceBytes);
  for (int64_t begin = 0; begin < file.size(); begin += stride) {
    piece.resize(static_cast<size_t>(std::min(kPieceBytes, file.size() - begin)));
    RETURN_IF_ERROR(file.Read(begin, static_cast<int64_t>(piece.size()), piece.data()));
    hasher.Update(piece.data(), piece.size());
  }
  return absl::OkStatus();
}

// Of the weights in a model folder, or in the newest checkpoint of a run.
absl::StatusOr<std::string> ModelFingerprint(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string folder, FindModelFolder(dir));
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") paths.push_back(entry->path().string());
  }
  if (error) return core::FileError(error.value(), "cannot list folder", folder);
  std::sort(paths.begin(), paths.end());
  core::Hasher hasher;
  for (const std::string& path : paths) RETURN_IF_ERROR(AddFile(path, hasher));
  return hasher.HexDigest();
}

absl::StatusOr<std::string> FileFingerprint(const std::string& path) {
  core::Hasher hasher;
  RETURN_IF_ERROR(AddFile(path, hasher));
  return hasher.HexDigest();
}

// True if `stage` writes what the source reads.
bool Writes(const core::StagePlan& stage, const core::SourceConfig& source) {
  return source.path.starts_with(stage.config.run.dir + "/");
}

// By paths in the folder of the recipe, which may be moved, or as the config names them.
absl::StatusOr<nlohmann::json> FingerprintsOf(const core::Recipe& recipe, const core::StagePlan& plan) {
  nlohmann::json inputs = nlohmann::json::object();
  const auto name = [&recipe](const std::string& path) {
    return path.starts_with(recipe.dir + "/") ? path.substr(recipe.dir.size() + 1) : path;
  };
  for (const std::string& model : {plan.config.model.from, plan.config.teacher}) {
    if (model.empty()) continue;
    ASSIGN_OR_RETURN(inputs[name(model)], ModelFingerprint(model));
  }
  for (const core::SourceConfig& source : plan.config.data.train) {
    const auto writes = [&source](const core::StagePlan& stage) { return Writes(stage, source); };
    if (std::none_of(recipe.stages.begin(), recipe.stages.end(), writes)) continue;
    ASSIGN_OR_RETURN(inputs[name(source.path)], FileFingerprint(source.path));
  }
  return inputs;
}

}  // namespace

bool ReadsStage(const core::StagePlan& plan, const core::StagePlan& input) {
  const std::vector<core::SourceConfig>& train = plan.config.data.train;
  return plan.from == input.name || plan.config.teacher == input.config.run.dir ||
         std::any_of(train.begin(), train.end(),
                     [&input](const core::SourceConfig& source) { return Writes(input, source); });
}

absl::Status CheckInputs(const core::Recipe& recipe, const core::StagePlan& plan) {
  const std::string path = plan.config.run.dir + "/inputs.json";
  ASSIGN_OR_RETURN(const nlohmann::json inputs, FingerprintsOf(recipe, plan));
  if (!core::FileExists(path)) return core::ReplaceTextFile(path, inputs.dump(2) + "\n");
  ASSIGN_OR_RETURN(const std::string text, core::ReadTextFile(path, kMaxInputsBytes));
  ASSIGN_OR_RETURN(const nlohmann::json before, core::ParseJson(text, {.name = path}, {}));
  for (const auto& [input, fingerprint] : inputs.items()) {
    if (before.is_object() && before.value(input, nlohmann::json()) == fingerprint) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "stage %s was made from %s as it was before: that has changed since. To make the stage anew: rm -r %s",
        plan.name, input, plan.config.run.dir));
  }
  return absl::OkStatus();
}

}  // namespace conclave::launch
