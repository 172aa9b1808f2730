// SPDX-License-Identifier: Apache-2.0
// Final norm, head, loss and multi-token prediction: one unit on one stage. The loss computes its own gradient in the
// same call (fused linear cross entropy), so Backward starts from what Forward left. Multi-token prediction
// (DeepSeek-V3 report, section 2.2): depth k sees the embedding of token s + k and the hidden state of depth k - 1
// after its final norm,
//   x_k = eh_proj [enorm(embedding) ; hnorm(hidden)]   (embedding first, as released), one block, a norm of its own,
//   the
// shared head. Legend: T tokens, D hidden, V vocabulary.
#pragma once

#include <memory>
#include <vector>

#include "core/model/batch.h"
#include "core/model/block.h"
#include "core/model/embedding.h"

namespace conclave::core {

// How a student learns from a teacher's distributions: instead of from its labels, at their places.
struct Distillation {
  DivergenceArgs::Direction direction = DivergenceArgs::Direction::kForward;
  PackedWeight teacher_head = {};
};

// Factors of the loss terms; label_scale = 1 / labels of the global batch.
struct LossWeights {
  float label_scale = 0;
  float mtp = 0;          // of the sum over depths, already divided by the depth
  float balance = 0;      // of each block's mean over rows
  float z_loss = 0;       // not of a policy, nor of a student
  float temperature = 1;  // of the main head
  PolicyRule rule = {};   // of passes in which a policy learns
  PolicyPass policy_pass = PolicyPass::kOffPolicy;
  Distillation distillation = {};  // of training passes with StepStatistics::teacher_hidden
};

// Device memory of one step that passes add to, or write or read rows of. With neither losses nor hidden states asked
// for, a pass ends behind the final norm.
struct StepStatistics {
  Tensor loss;                 // f64 [1 + depth, rows]: cross entropy by depth; per row, summed over labels
  Tensor z_sum;                // f64 [1, rows]
  Tensor balance_loss;         // f64 [moe blocks, rows]
  Tensor load;                 // i64 [moe blocks, E]
  Tensor log_probs;            // f32 [rows, S] of the labels; optional
  Tensor policy = {};          // f64 [rows, kPolicySums], in passes in which a policy learns
  Tensor hidden = {};          // [rows, S, D] behind the final norm; where it is asked for there are no losses
  Tensor teacher_hidden = {};  // [rows, S, D'] the same of a teacher; read
  Tensor divergence = {};      // f64 [1, rows] from the teacher, with teacher_hidden
  // experts [body MoE blocks, rows, S, k]: of a stage, or of all stages of a rank, one after the other. Blocks of
  // multi-token prediction, which no log-probability of the main model depends on, always choose for themselves.
  RouterChoices choices = {};

  // The part of rows [begin, begin + count) of the step.
  StepStatistics Rows(int64_t begin, int64_t count) const;
};

struct MtpSaved {
  Tensor embedded;  // [T, D]
  Tensor e_rstd, h_rstd;
  Tensor joined;  // [T, 2 D]: enorm | hnorm; until the weight gradient
  BlockSaved block;
  Tensor rstd;
  Tensor normed;    // [T, D] after its own final norm
  Tensor d_normed;  // [T, D]
};

struct LossSaved {
  Tensor hidden;  // [T, D] before the final norm
  Tensor rstd;
  Tensor normed;    // [T, D]
  Tensor d_normed;  // [T, D]: of the head, then of depth 1
  std::vector<MtpSaved> mtp;
};

class LossUnit {
 public:
  // `make_exchange` may be empty without MoE blocks; the first of them here has index `first_exchange` in its stage.
  LossUnit(const ModelConfig& config, ParamSet& params, const ExchangeFactory& make_exchange, int64_t first_exchange,
           const EmbeddingLayer* embedding, DType dtype, const Tensor& rope_table);

  // saved.hidden is set -> saved.normed.
  void Normalize(Lane& lane, StagePass& pass, LossSaved& saved) const;
  // -> saved.mtp[k].normed for all depths; `first_moe`: place of its first MoE block in `statistics`.
  void PredictAhead(Lane& lane, StagePass& pass, const StepStatistics& statistics, int64_t first_moe,
                    LossSaved& saved) const;
  // Losses of all depths, and in training passes their gradients (also of the head).
  void Loss(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
            LossSaved& saved) const;
  // out V, in D; panels are those of the present weights.
  const PackedWeight& head() const { return head_->forward; }
  // normed [T, D] -> logits f32 [T, V]
  void Logits(Lane& lane, Tensor normed, Tensor logits) const;
  // d_hidden [T, D]: gradient of saved.hidden, until the weight gradient.
  void Backward(Lane& lane, StagePass& pass, const LossWeights& weights, LossSaved& saved, Tensor d_hidden) const;

  int depth() const { return static_cast<int>(mtp_.size()); }
  const Block& block(int k) const { return mtp_[k]->block; }

 private:
  struct MtpLayer {
    MtpLayer(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange, int64_t layer,
             DType dtype, const Tensor& rope_table);
    RmsNormLayer enorm, hnorm;
    Linear eh_proj;
    Block block;
    RmsNormLayer norm;
  };

  // One head's loss of depth k: what of it differs from call to call.
  struct HeadLossArgs {
    int k = 0;
    float scale = 0, z_loss = 0, temperature = 1;
    Tensor token_weights = {};  // f32 [T], instead of scale
    Tensor log_probs = {};      // f32 [T], optional
    Tensor normed = {};
    Tensor d_normed = {};  // empty: no gradients
  };
  CrossEntropyArgs ArgsOf(const StagePass& pass, const StepStatistics& statistics, const HeadLossArgs& head) const;
  void HeadLoss(Lane& lane, StagePass& pass, const StepStatistics& statistics, const HeadLossArgs& head) const;
  // The main head's loss where a policy learns.
  void PolicyHeadLoss(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                      const LossSaved& saved) const;
  // The main head's loss of a student.
  void StudentHeadLoss(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                       const LossSaved& saved) const;
  // The main head's sums of what a policy came to, by the log-probabilities of this pass.
  void PolicySums(Lane& lane, const StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                  Tensor log_probs) const;
  void MtpBackward(Lane& lane, StagePass& pass, const LossWeights& weights, int k, LossSaved& saved) const;

  const ParamSet& params_;
  DType dtype_;
  int64_t hidden_;
  int64_t first_layer_;              // number of the first layer of multi-token prediction
  const EmbeddingLayer* embedding_;  // with tied embeddings or multi-token prediction
  RmsNormLayer norm_;
  Param* head_;  // [V, D]; the embedding itself if tied
  std::vector<std::unique_ptr<MtpLayer>> mtp_;
};

}  // namespace conclave::core
