// SPDX-License-Identifier: Apache-2.0
#include "launch/model_values.h"

#include <charconv>
#include <memory>
#include <string_view>

#include "absl/strings/str_format.h"

#include "core/base/fixed_sum.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/model_folder.h"
#include "core/model/model.h"
#include "optim/trainer.h"
#include "optim/weights.h"

namespace conclave::launch {
namespace {

using core::DType;
using core::Tensor;

constexpr std::string_view kGradient = "grad.", kAfter = "after.";

template <class T>
std::vector<T> ToHost(core::Model& model, const Tensor& tensor) {
  std::vector<T> host(static_cast<size_t>(tensor.Elements()));
  model.device().CopyToHost(model.stream(), tensor, host.data());
  model.device().Synchronize(model.stream());
  return host;
}

// "1.bias" -> the tensor name of the router bias of layer 1; every other name as it is.
std::string TensorName(std::string_view name) {
  int64_t layer = 0;
  const std::from_chars_result digits = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (digits.ec != std::errc() || name.substr(static_cast<size_t>(digits.ptr - name.data())) != ".bias")
    return std::string(name);
  return absl::StrFormat("model.layers.%d.mlp.gate.e_score_correction_bias", layer);
}

class Computation {
 public:
  Computation(const Reference& reference, core::Model& model, optim::Trainer& trainer)
      : reference_(reference),
        model_(model),
        trainer_(trainer),
        rows_(reference.batch.rows),
        length_(reference.batch.length) {}

  absl::StatusOr<std::map<std::string, NamedValue>> Run() {
    trainer_.Backward(reference_.batch);
    RETURN_IF_ERROR(AddLogits());
    AddExperts();
    AddGradients();
    trainer_.ClearGradients();
    AddSteps();
    AddParametersAfter();
    return std::move(values_);
  }

 private:
  bool Wanted(const std::string& name) const { return reference_.file.Find(name) != nullptr; }
  void Add(const std::string& name, std::vector<int64_t> shape, std::vector<float> data) {
    if (Wanted(name)) values_[name] = {std::move(shape), std::move(data)};
  }
  void Add(const std::string& name, double value) { Add(name, {1}, std::vector<float>{static_cast<float>(value)}); }

  absl::Status AddLogits() {
    const core::LossSaved& saved = trainer_.executor().last_pass().saved.loss;
    const int64_t vocabulary = model_.config().vocab_size;
    for (int shift = 0; shift <= (saved.mtp.empty() ? 0 : 1); ++shift) {
      const std::string name = shift == 0 ? "logits" : "mtp_logits";
      if (!Wanted(name)) continue;
      const Tensor normed = shift == 0 ? saved.normed : saved.mtp[0].normed;
      ASSIGN_OR_RETURN(const auto memory, model_.device().Allocate(rows_ * length_ * vocabulary * 4, "logits"));
      const Tensor logits(memory->data(), DType::kF32, {rows_ * length_, vocabulary});
      model_.stage().loss_unit().Logits(trainer_.executor().lane().lane, normed, logits);
      std::vector<float> host = ToHost<float>(model_, logits);
      for (int64_t row = 0; row < rows_; ++row) {
        const auto end = host.begin() + (row + 1) * length_ * vocabulary;
        std::fill(end - shift * vocabulary, end, 0.0f);
      }
      Add(name, {rows_, length_, vocabulary}, std::move(host));
    }
    return absl::OkStatus();
  }

  void AddExperts() {
    const core::StageSaved& saved = trainer_.executor().last_pass().saved;
    const int64_t blocks = model_.stage().num_blocks();
    for (const int64_t layer : core::MoeLayers(model_.config())) {
      const std::string name = absl::StrFormat("experts.%d", layer);
      if (!Wanted(name)) continue;
      const core::BlockSaved& block = layer < blocks ? saved.blocks[static_cast<size_t>(layer)]
                                                     : saved.loss.mtp[static_cast<size_t>(layer - blocks)].block;
      const std::vector<int32_t> all = ToHost<int32_t>(model_, block.moe.router.experts);
      const int64_t top_k = model_.config().num_experts_per_tok;
      // Depth k of multi-token prediction lacks the last k positions of a row.
      const int64_t kept = length_ - (layer < blocks ? 0 : layer - blocks + 1);
      std::vector<int32_t> chosen;
      for (int64_t row = 0; row < rows_; ++row) {
        const auto begin = all.begin() + row * length_ * top_k;
        chosen.insert(chosen.end(), begin, begin + kept * top_k);
      }
      values_[name] = {{rows_ * kept, top_k}, std::move(chosen)};
    }
  }

  void AddGradients() {
    for (const auto& param : model_.params().params()) {
      if (!param->sum || !AnyWanted(kGradient, *param)) continue;
      for (const core::ParamPart& part : param->spec.parts) {
        const std::string name = std::string(kGradient) + part.hf_name;
        if (Wanted(name)) Add(name, part.shape, GradientOf(model_, *param, part));
      }
    }
  }

  bool AnyWanted(std::string_view prefix, const core::Param& param) const {
    for (const core::ParamPart& part : param.spec.parts) {
      if (Wanted(std::string(prefix) + part.hf_name)) return true;
    }
    return false;
  }

  void AddSteps() {
    std::vector<float> losses, norms;
    const int64_t steps = std::max<int64_t>(reference_.steps, 1);
    for (int64_t step = 1; step <= steps; ++step) {
      const optim::StepMetrics metrics = trainer_.Step(reference_.batch, step);
      const bool has_balance = model_.config().HasRouterBias();
      if (step == 1) {
        Add("loss", metrics.loss);
        Add("mtp_loss", metrics.mtp_loss);
        Add("balance_loss", has_balance ? metrics.balance_loss : 0);
        Add("total_loss", metrics.total_loss);
      }
      losses.push_back(static_cast<float>(metrics.total_loss));
      norms.push_back(static_cast<float>(metrics.grad_norm));
    }
    Add("train.loss", {steps}, std::move(losses));
    Add("train.grad_norm", {steps}, std::move(norms));
  }

  void AddParametersAfter() {
    for (const core::SafetensorsEntry& entry : reference_.file.entries()) {
      if (!entry.name.starts_with(kAfter)) continue;
      const core::ParamPart* part = nullptr;
      const core::Param* param =
          model_.params().FindByHfName(TensorName(std::string_view(entry.name).substr(kAfter.size())), &part);
      if (!param) continue;
      const std::vector<float> all = ToHost<float>(model_, param->master);
      const auto begin = all.begin() + part->offset;
      values_[entry.name] = {part->shape, std::vector<float>(begin, begin + part->Elements())};
    }
  }

  const Reference& reference_;
  core::Model& model_;
  optim::Trainer& trainer_;
  const int64_t rows_, length_;
  std::map<std::string, NamedValue> values_;
};

}  // namespace

std::vector<float> GradientOf(core::Model& model, const core::Param& param, const core::ParamPart& part) {
  const Tensor sums = param.sum.Reshape({param.spec.Elements()}).Slice(0, part.offset, part.Elements());
  std::vector<float> gradient;
  for (const int64_t sum : ToHost<int64_t>(model, sums)) gradient.push_back(core::GradientToFloat(sum));
  return gradient;
}

absl::StatusOr<std::map<std::string, NamedValue>> ComputeValues(const std::string& dir, const core::ModelConfig& config,
                                                                const Reference& reference,
                                                                const VerifyOptions& options) {
  ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
  core::ModelConfig model_config = config;
  // Transformers, for one, computes no multi-token prediction: then the reference has none either.
  const bool predicts_ahead = (reference.file.Find("mtp_loss") || reference.file.Find("mtp_logits")) &&
                              folder.Has(absl::StrFormat("model.layers.%d.eh_proj.weight", config.num_hidden_layers));
  if (!predicts_ahead) model_config.num_nextn_predict_layers = 0;
  const core::Config training = reference.TrainingConfig(model_config, options.precision);
  ASSIGN_OR_RETURN(const auto device, core::CreateDevice({.num_threads = options.threads}));
  ASSIGN_OR_RETURN(const auto model, core::Model::Create(model_config, *device,
                                                         {.precision = training.ComputePrecision(),
                                                          .purpose = core::ParamSet::Purpose::kTraining,
                                                          .max_positions = reference.batch.length}));
  RETURN_IF_ERROR(optim::LoadWeights(folder, optim::MissingMtp::kRefuse, *model));
  ASSIGN_OR_RETURN(const auto trainer, optim::Trainer::Create(*model, training));
  return Computation(reference, *model, *trainer).Run();
}

}  // namespace conclave::launch
