// SPDX-License-Identifier: Apache-2.0
#include "optim/weights.h"

#include <algorithm>
#include <optional>
#include <tuple>

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

void* ElementAt(const core::Tensor& tensor, int64_t index) {
  return tensor.As<char>() + index * core::SizeOf(tensor.dtype);
}

StateTensor View(const std::string& name, const ParamPart& part, const core::Tensor& tensor) {
  return {.name = name,
          .shape = part.shape,
          .box = WholeBox(part.shape),
          .dtype = tensor.dtype,
          .data = ElementAt(tensor, part.offset)};
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
  std::vector<float> whole;  // of masters that are cut
  for (const auto& param : model.params().params()) {
    for (const ParamPart& part : param->spec.parts) {
      if (skip_mtp && BelongsToMtp(model.config(), part.hf_name)) continue;
      if (!param->cut_master) {
        RETURN_IF_ERROR(folder.Read(part.hf_name, part.shape, param->master.As<float>() + part.offset));
        continue;
      }
      const int64_t first = part.offset / param->cols(), rows = part.Elements() / param->cols();
      const int64_t begin = std::max(first, param->shard.begin), end = std::min(first + rows, param->shard.end);
      if (begin >= end) continue;
      whole.resize(part.Elements());
      RETURN_IF_ERROR(folder.Read(part.hf_name, part.shape, whole.data()));
      std::copy_n(whole.data() + (begin - first) * param->cols(), (end - begin) * param->cols(),
                  param->master.As<float>() + (begin - param->shard.begin) * param->cols());
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
    for (const ParamPart& part : param->spec.parts) {
      weights.push_back(View(part.hf_name, part, param->master));
      if (param->cut_master) weights.back().data = nullptr;
    }
  }
  // As released, each multi-token-prediction layer carries copies of embedding and head.
  const ModelConfig& config = model.config();
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    const std::string prefix = absl::StrFormat("model.layers.%d.", config.num_hidden_layers + k);
    const ParamPart* part = nullptr;
    if (model.params().FindByHfName(prefix + "eh_proj.weight", &part) == nullptr) continue;  // on other ranks
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

namespace {

// The rows of `part` within rows [shard.begin, shard.end) of its parameter, `tensor` being those rows; nothing if there
// are none.
std::optional<StateTensor> ViewOfRows(const std::string& name, const Param& param, const ParamPart& part,
                                      const core::Shard& shard, const core::Tensor& tensor) {
  const int64_t first = part.offset / param.cols(), rows = part.Elements() / param.cols();
  const int64_t begin = std::max(first, shard.begin), end = std::min(first + rows, shard.end);
  if (begin >= end) return std::nullopt;
  StateTensor view = View(name, {.hf_name = part.hf_name, .shape = part.shape}, tensor);
  view.box.offsets[0] = begin - first;
  view.box.sizes[0] = end - begin;
  view.data = ElementAt(tensor, (begin - shard.begin) * param.cols());
  return view;
}

enum class Masters { kShard, kWhole };

std::vector<StateTensor> StateOf(const core::Model& model, Masters masters) {
  std::vector<StateTensor> state;
  for (const auto& param : model.params().params()) {
    const bool whole = masters == Masters::kWhole && !param->cut_master;
    const core::Shard master_rows = whole ? core::Shard{0, param->rows()} : param->shard;
    const core::Tensor master = whole ? param->master : param->ShardMaster();
    for (const ParamPart& part : param->spec.parts) {
      for (const auto& [kind, rows, tensor] :
           {std::tuple<const char*, core::Shard, core::Tensor>{"master", master_rows, master},
            {"m", param->shard, param->m},
            {"v", param->shard, param->v},
            {"ema", param->shard, param->ema}}) {
        if (!tensor) continue;
        const std::string name = absl::StrFormat("optimizer.%s.%s", kind, part.hf_name);
        if (auto view = ViewOfRows(name, *param, part, rows, tensor)) state.push_back(*std::move(view));
      }
    }
  }
  return state;
}

}  // namespace

std::vector<StateTensor> OptimizerTensors(const core::Model& model) { return StateOf(model, Masters::kShard); }
std::vector<StateTensor> RestoredTensors(const core::Model& model) { return StateOf(model, Masters::kWhole); }

}  // namespace conclave::optim
