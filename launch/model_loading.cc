// SPDX-License-Identifier: Apache-2.0
#include "launch/model_loading.h"

#include <cstdint>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/model_folder.h"
#include "core/config/hf_config.h"
#include "launch/usage_error.h"
#include "optim/weights.h"

namespace conclave::launch {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;

absl::Status AddEndTokens(const std::string& path, std::vector<int32_t>& ids) {
  ASSIGN_OR_RETURN(const std::string text, core::ReadTextFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const nlohmann::json json, core::ParseJson(text, {.name = path}, {}));
  if (!json.is_object()) return absl::InvalidArgumentError(path + ": is not a JSON object");
  const auto found = json.find("eos_token_id");
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  for (const nlohmann::json& id : found->is_array() ? *found : nlohmann::json::array({*found})) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(path + ": eos_token_id: must be a token id or a list of them");
    }
    ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FindModelFolder(const std::string& dir) {
  if (core::FileExists(dir + "/config.json")) return dir;
  if (!core::FileExists(dir)) return absl::NotFoundError(absl::StrFormat("%s: there is no such folder", dir));
  ASSIGN_OR_RETURN(const auto steps, core::ListSteps(dir + "/checkpoints"));
  if (!steps.empty()) return steps.front().second;
  return absl::NotFoundError(
      absl::StrFormat("%s is neither a model folder (no config.json) nor a run folder with a checkpoint", dir));
}

absl::StatusOr<std::unique_ptr<data::Tokenizer>> LoadTokenizerOf(const std::string& name) {
  if (!core::FileExists(name + "/checkpoints")) return data::LoadTokenizer(name);
  ASSIGN_OR_RETURN(const std::string folder, FindModelFolder(name));
  return data::LoadTokenizer(folder);
}

bool IsCheckpoint(const std::string& dir) { return core::FileExists(dir + "/manifest.pb"); }

absl::StatusOr<FolderConfig> ReadFolderConfig(const std::string& dir) {
  const std::string path = dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, core::ReadTextFile(path, kMaxConfigBytes));
  FolderConfig config;
  ASSIGN_OR_RETURN(config.model, core::ParseHfConfig(text, path));
  ASSIGN_OR_RETURN(const nlohmann::json json, core::ParseJson(text, {.name = path}, {}));
  for (const char* key : {"torch_dtype", "dtype"}) {
    const auto found = json.find(key);
    config.stored_bf16 |= found != json.end() && found->is_string() && found->get<std::string>() == "bfloat16";
  }
  return config;
}

absl::StatusOr<std::vector<int32_t>> ReadEndTokens(const std::string& dir) {
  std::vector<int32_t> ids;
  for (const char* name : {"config.json", "generation_config.json"}) {
    const std::string path = absl::StrFormat("%s/%s", dir, name);
    if (core::FileExists(path)) RETURN_IF_ERROR(AddEndTokens(path, ids));
  }
  return ids;
}

absl::StatusOr<core::Precision> ChoosePrecision(const std::string& text, const FolderConfig& config) {
  const bool bf16 = text.empty() ? config.stored_bf16 && core::ValidateForBf16(config.model).ok() : text == "bf16";
  if (!bf16) return core::Precision::kF32;
  const absl::Status fits = core::ValidateForBf16(config.model);
  if (!fits.ok()) return UsageError(absl::StrFormat("--precision: bf16 with %s", std::string(fits.message())));
  return core::Precision::kBf16;
}

core::CacheKind CacheNamed(std::string_view name) {
  return name == "latent" ? core::CacheKind::kLatent : core::CacheKind::kExpanded;
}

absl::Status CheckCache(std::string_view option, std::string_view name, const core::ModelConfig& model) {
  if (CacheNamed(name) == core::CacheKind::kExpanded || model.HasMla()) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("%s: latent keeps what multi-head latent attention expands, and a model of type %s has none; "
                      "give expanded",
                      option, model.model_type));
}

absl::Status LoadTrainedWeights(const std::string& dir, core::Model& model) {
  if (!IsCheckpoint(dir) || !core::FileExists(absl::StrFormat("%s/%s", dir, core::kStateFolder))) {
    ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
    return optim::LoadWeights(folder, optim::MissingMtp::kRefuse, model);
  }
  RETURN_IF_ERROR(core::RestoreState(dir, optim::RestoredTensors(model)));
  model.Refresh();
  return absl::OkStatus();
}

absl::StatusOr<LoadedModel> LoadForInference(const std::string& dir, const FolderConfig& config,
                                             core::Precision precision, int threads, int64_t max_positions,
                                             core::CacheKind cache) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.device, core::CreateDevice({.num_threads = threads}));
  ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
  core::ModelConfig model_config = config.model;
  model_config.num_nextn_predict_layers = 0;
  ASSIGN_OR_RETURN(loaded.model,
                   core::Model::Create(model_config, *loaded.device,
                                       {.precision = precision, .cache = cache, .max_positions = max_positions}));
  RETURN_IF_ERROR(optim::LoadWeights(folder, optim::MissingMtp::kRefuse, *loaded.model));
  return loaded;
}

}  // namespace conclave::launch
