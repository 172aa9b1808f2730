// SPDX-License-Identifier: Apache-2.0
#include "optim/weights.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::optim {
namespace {

using core::ModelConfig;
using core::Param;
using core::ParamPart;
using core::StateTensor;

core::Box WholeBox(const std::vector<int64_t>& shape) {
  core::Box box;
  box.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), box.sizes.begin());
  return box;
}

StateTensor View(const std::string& name, const ParamPart& part, const core::Tensor& tensor) {
  return {.name = name,
          .shape = part.shape,
          .box = WholeBox(part.shape),
          .dtype = core::DType::kF32,
          .data = tensor.As<float>() + part.offset};
}

bool BelongsToMtp(const ModelConfig& config, const std::string& hf_name) {
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    if (hf_name.starts_with(absl::StrFormat("model.layers.%d.", config.num_hidden_layers + k))) return true;
  }
  return false;
}

bool FolderHasMtp(const core::ModelFolder& folder, const ModelConfig& config) {
  return folder.Has(absl::StrFormat("model.layers.%d.eh_proj.weight", config.num_hidden_layers));
}

}  // namespace

absl::Status LoadWeights(const core::ModelFolder& folder, MissingMtp missing_mtp, core::Model& model) {
  const bool skip_mtp = missing_mtp == MissingMtp::kKeepInitial && !FolderHasMtp(folder, model.config());
  for (const auto& param : model.params().params()) {
    for (const ParamPart& part : param->spec.parts) {
      if (skip_mtp && BelongsToMtp(model.config(), part.hf_name)) continue;
      RETURN_IF_ERROR(folder.Read(part.hf_name, part.shape, param->master.As<float>() + part.offset));
    }
  }
  model.Refresh();
  return absl::OkStatus();
}

std::vector<StateTensor> HfWeights(const core::Model& model) {
  std::vector<StateTensor> weights;
  const Param *embedding = nullptr, *head = nullptr;
  for (const auto& param : model.params().params()) {
    if (param->spec.name == "embedding") embedding = param.get();
    if (param->spec.name == "head") head = param.get();
    for (const ParamPart& part : param->spec.parts) weights.push_back(View(part.hf_name, part, param->master));
  }
  // As released, each multi-token-prediction layer carries copies of embedding and head.
  const ModelConfig& config = model.config();
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    const std::string prefix = absl::StrFormat("model.layers.%d.", config.num_hidden_layers + k);
    const Param* shared_head = head ? head : embedding;
    weights.push_back(View(prefix + "embed_tokens.weight", embedding->spec.parts[0], embedding->master));
    weights.push_back(View(prefix + "shared_head.head.weight", shared_head->spec.parts[0], shared_head->master));
  }
  return weights;
}

std::vector<std::string> RouterBiasNames(const core::Model& model) {
  std::vector<std::string> names;
  for (const auto& param : model.params().params()) {
    if (param->spec.kind == core::ParamKind::kRouterBias) names.push_back(param->spec.parts[0].hf_name);
  }
  return names;
}

std::vector<StateTensor> OptimizerTensors(const core::Model& model) {
  std::vector<StateTensor> state;
  for (const auto& param : model.params().params()) {
    for (const ParamPart& part : param->spec.parts) {
      for (const auto& [kind, tensor] : {std::pair<const char*, core::Tensor>{"master", param->master},
                                         {"m", param->m},
                                         {"v", param->v},
                                         {"ema", param->ema}}) {
        if (tensor) state.push_back(View(absl::StrFormat("optimizer.%s.%s", kind, part.hf_name), part, tensor));
      }
    }
  }
  return state;
}

}  // namespace conclave::optim
