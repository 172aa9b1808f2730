// SPDX-License-Identifier: Apache-2.0
// From a path that a user types to a model that is ready: what generate, eval and verify begin with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/model_config.h"
#include "core/device/device.h"
#include "core/model/model.h"
#include "data/tokenizer.h"

namespace conclave::launch {

// `dir` itself if it is a model folder; for a run folder its newest checkpoint.
absl::StatusOr<std::string> FindModelFolder(const std::string& dir);

// As data::LoadTokenizer, and of a run folder that of its newest checkpoint.
absl::StatusOr<std::unique_ptr<data::Tokenizer>> LoadTokenizerOf(const std::string& name);

// Whether a model folder is a checkpoint of ours.
bool IsCheckpoint(const std::string& dir);

// config.json of a model folder. `stored_bf16`: what its torch_dtype says.
struct FolderConfig {
  core::ModelConfig model;
  bool stored_bf16 = false;
};
absl::StatusOr<FolderConfig> ReadFolderConfig(const std::string& dir);

// Every id that config.json and generation_config.json give as eos_token_id: a number, or a list of them.
absl::StatusOr<std::vector<int32_t>> ReadEndTokens(const std::string& dir);

// "f32", "bf16", or "" for what the folder is stored in.
absl::StatusOr<core::Precision> ChoosePrecision(const std::string& text, const FolderConfig& config);

// "expanded" or "latent": what is kept of earlier tokens while samples are drawn.
core::CacheKind CacheNamed(std::string_view name);
// A usage error, of the option or key, if a model has no such cache.
absl::Status CheckCache(std::string_view option, std::string_view name, const core::ModelConfig& model);

// Fills a model with the weights of a folder: of a checkpoint with those that training goes on with, to the bit, also
// where its model files are rounded to bf16.
absl::Status LoadTrainedWeights(const std::string& dir, core::Model& model);

struct LoadedModel {
  std::unique_ptr<core::Device> device;
  std::unique_ptr<core::Model> model;  // freed before the device
};

// Weights for inference, without multi-token prediction.
absl::StatusOr<LoadedModel> LoadForInference(const std::string& dir, const FolderConfig& config,
                                             core::Precision precision, int threads, int64_t max_positions,
                                             core::CacheKind cache = core::CacheKind::kExpanded);

}  // namespace conclave::launch
