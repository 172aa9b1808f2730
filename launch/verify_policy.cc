// SPDX-License-Identifier: Apache-2.0
#include "launch/verify_policy.h"

#include <stdio.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/model_folder.h"
#include "core/device/device.h"
#include "core/model/model.h"
#include "launch/model_values.h"
#include "launch/policy_reference.h"
#include "launch/value_difference.h"
#include "optim/log_probs.h"
#include "optim/trainer.h"
#include "optim/weights.h"
#include "parallel/comm.h"
#include "parallel/layout.h"

namespace conclave::launch {
namespace {

// A trainer that changes nothing: passes give losses and gradients.
core::Config FrozenConfig(const core::ModelConfig& model, const core::Batch& batch, const std::string& precision) {
  core::Config config;
  config.stage = "grpo";
  config.model = model;
  config.precision = precision;
  config.data.sequence_length = batch.length;
  config.batch.sequences = batch.rows;
  config.grpo.kl.coefficient = 1;  // memory for a reference; the rules have their own weights
  config.optim.lr = config.optim.weight_decay = config.optim.z_loss = 0;
  config.moe.mtp_weight = config.moe.balance_loss = config.moe.bias_update_speed = 0;
  return config;
}

struct WorstGradient {
  std::string name;
  double relative = 0;
};

class PolicyComparison {
 public:
  PolicyComparison(const PolicyReference& reference, double tolerance, core::Model& model, optim::Trainer& trainer)
      : reference_(reference), tolerance_(tolerance), model_(model), trainer_(trainer), batch_(reference.batch) {}

  absl::StatusOr<bool> Run(optim::LogProbs& log_probs) {
    fputs(
        absl::StrFormat("%-24s %14s %14s %10s   %s\n", "policy loss", "ours", "expected", "relative", "worst gradient")
            .c_str(),
        stdout);
    bool ok = reference_.log_probs.empty() || CompareLogProbs(log_probs);
    for (const PolicyVariant& variant : reference_.variants) {
      ASSIGN_OR_RETURN(const bool same, Compare(variant));
      ok = ok && same;
    }
    fputs(absl::StrFormat("%s of %d policy losses%s within %.1e\n", ok ? "all" : "not all", reference_.variants.size(),
                          model_.dtype() == core::DType::kBf16 ? "" : " and their gradients", tolerance_)
              .c_str(),
          stdout);
    return ok;
  }

 private:
  bool CompareLogProbs(optim::LogProbs& log_probs) const {
    std::vector<float> ours(batch_.tokens.size());
    log_probs.Compute(batch_, 1, ours);
    const ValueDifference difference = DifferenceOf(ours, reference_.log_probs);
    const bool ok = difference.relative <= tolerance_;
    fputs(absl::StrFormat("%-24s %14s %14s %10.2e   %-51s %s\n", "logprobs", "", "", difference.relative, "",
                          ok ? "ok" : "FAIL")
              .c_str(),
          stdout);
    return ok;
  }

  absl::StatusOr<bool> Compare(const PolicyVariant& variant) {
    batch_.policy->weights = variant.weights;
    trainer_.SetPolicy(variant.rule, 1);
    const float ours = static_cast<float>(trainer_.Step(batch_, 1).policy->loss);
    const std::string name = variant.name + ".loss";
    const core::SafetensorsEntry* entry = reference_.file.Find(name);
    float theirs = ours;
    if (entry && entry->shape != std::vector<int64_t>{1}) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: %s is not [1]", reference_.file.path(), name));
    }
    if (entry) RETURN_IF_ERROR(reference_.file.ReadFloats(*entry, 0, 1, &theirs));
    const double relative = DifferenceOf({&ours, 1}, {&theirs, 1}).relative;
    trainer_.Backward(batch_);
    const absl::StatusOr<WorstGradient> worst = CompareGradients(variant.name + ".grad.");
    trainer_.ClearGradients();
    RETURN_IF_ERROR(worst.status());
    // In bf16 a token may come to lie on the other side of a bound: a jump of the gradient, not of the loss.
    const bool same_gradient = worst->relative <= tolerance_ || model_.dtype() == core::DType::kBf16;
    const bool ok = relative <= tolerance_ && same_gradient;
    fputs(absl::StrFormat("%-24s %14.6e %14.6e %10.2e   %9.2e %-41s %s\n", variant.name, ours, theirs, relative,
                          worst->relative, worst->name, ok ? "ok" : "FAIL")
              .c_str(),
          stdout);
    return ok;
  }

  absl::StatusOr<WorstGradient> CompareGradients(const std::string& prefix) {
    WorstGradient worst;
    for (const core::SafetensorsEntry& entry : reference_.file.entries()) {
      if (!entry.name.starts_with(prefix)) continue;
      const std::string tensor = entry.name.substr(prefix.size());
      const core::ParamPart* part = nullptr;
      const core::Param* param = model_.params().FindByHfName(tensor, &part);
      if (!param || !param->sum || part->shape != entry.shape) {
        return absl::InvalidArgumentError(absl::StrFormat("%s: %s: the model has no gradient of this name and shape",
                                                          reference_.file.path(), entry.name));
      }
      std::vector<float> theirs(static_cast<size_t>(part->Elements()));
      RETURN_IF_ERROR(reference_.file.ReadFloats(entry, 0, part->Elements(), theirs.data()));
      const double relative = DifferenceOf(GradientOf(model_, *param, *part), theirs).relative;
      if (!(relative <= worst.relative)) worst = {tensor, relative};
    }
    return worst;
  }

  const PolicyReference& reference_;
  const double tolerance_;
  core::Model& model_;
  optim::Trainer& trainer_;
  core::Batch batch_;
};

}  // namespace

absl::StatusOr<bool> VerifyPolicies(const std::string& dir, const core::ModelConfig& config,
                                    const VerifyOptions& options, double tolerance) {
  ASSIGN_OR_RETURN(const PolicyReference reference, PolicyReference::Open(options.reference, config.vocab_size));
  if (reference.batch.length > config.max_position_embeddings) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d tokens per sample, the model takes %d", options.reference,
                                                      reference.batch.length, config.max_position_embeddings));
  }
  core::ModelConfig model_config = config;
  model_config.num_nextn_predict_layers = 0;
  const core::Config frozen = FrozenConfig(model_config, reference.batch, options.precision);
  ASSIGN_OR_RETURN(const auto folder, core::ModelFolder::Open(dir));
  ASSIGN_OR_RETURN(const auto device, core::CreateDevice({.num_threads = options.threads}));
  ASSIGN_OR_RETURN(const auto model, core::Model::Create(model_config, *device,
                                                         {.precision = frozen.ComputePrecision(),
                                                          .purpose = core::ParamSet::Purpose::kTraining,
                                                          .max_positions = reference.batch.length}));
  RETURN_IF_ERROR(optim::LoadWeights(folder, optim::MissingMtp::kRefuse, *model));
  const std::unique_ptr<parallel::Comm> alone = parallel::MakeSelfComm();
  ASSIGN_OR_RETURN(const auto layout,
                   parallel::Layout::Create(frozen, model_config, {reference.batch.rows}, *alone, 1));
  ASSIGN_OR_RETURN(const auto trainer, optim::Trainer::Create(*model, frozen, *layout));
  ASSIGN_OR_RETURN(const auto log_probs, optim::LogProbs::Create(*model, *layout, reference.batch.rows));
  return PolicyComparison(reference, tolerance, *model, *trainer).Run(*log_probs);
}

}  // namespace conclave::launch
