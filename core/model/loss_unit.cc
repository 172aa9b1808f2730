// SPDX-License-Identifier: Apache-2.0
#include "core/model/loss_unit.h"

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

std::string MtpName(int64_t layer, const char* part) { return absl::StrFormat("layers.%d.%s", layer, part); }
std::string MtpHfName(int64_t layer, const char* part) { return absl::StrFormat("model.layers.%d.%s", layer, part); }

// Without what differs from call to call: whose log-probabilities, and what is asked for.
PolicyLossArgs PolicyArgs(const PolicyTensors& policy, const PolicyRule& rule) {
  return {.rule = rule,
          .log_probs = {},
          .old_log_probs = policy.old_log_probs,
          .reference_log_probs = policy.reference_log_probs,
          .advantages = policy.advantages,
          .weights = policy.weights,
          .sequences = policy.sequences,
          .token_weights = {},
          .sums = {}};
}

}  // namespace

StepStatistics StepStatistics::Rows(int64_t begin, int64_t count) const {
  StepStatistics out = *this;
  if (loss) out.loss = loss.Slice(1, begin, count);
  if (z_sum) out.z_sum = z_sum.Slice(1, begin, count);
  if (balance_loss) out.balance_loss = balance_loss.Slice(1, begin, count);
  if (log_probs) out.log_probs = log_probs.Slice(0, begin, count);
  if (policy) out.policy = policy.Slice(0, begin, count);
  if (hidden) out.hidden = hidden.Slice(0, begin, count);
  if (teacher_hidden) out.teacher_hidden = teacher_hidden.Slice(0, begin, count);
  if (divergence) out.divergence = divergence.Slice(1, begin, count);
  if (choices) out.choices.experts = choices.experts.Slice(1, begin, count);
  return out;
}

LossUnit::MtpLayer::MtpLayer(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange,
                             int64_t layer, DType dtype, const Tensor& rope_table)
    : enorm(params, MtpName(layer, "enorm"), MtpHfName(layer, "enorm"), config.hidden_size, config.rms_norm_eps),
      hnorm(params, MtpName(layer, "hnorm"), MtpHfName(layer, "hnorm"), config.hidden_size, config.rms_norm_eps),
      eh_proj(params, MtpName(layer, "eh_proj"), MtpHfName(layer, ""), {{"eh_proj", config.hidden_size}},
              2 * config.hidden_size, dtype),
      block(config, params, std::move(exchange), layer, dtype, rope_table),
      norm(params, MtpName(layer, "norm"), MtpHfName(layer, "shared_head.norm"), config.hidden_size,
           config.rms_norm_eps) {}

LossUnit::LossUnit(const ModelConfig& config, ParamSet& params, const ExchangeFactory& make_exchange,
                   int64_t first_exchange, const EmbeddingLayer* embedding, DType dtype, const Tensor& rope_table)
    : params_(params),
      dtype_(dtype),
      hidden_(config.hidden_size),
      first_layer_(config.num_hidden_layers),
      embedding_(embedding),
      norm_(params, "norm", "model.norm", config.hidden_size, config.rms_norm_eps),
      head_(nullptr) {
  if (config.tie_word_embeddings) {
    head_ = embedding->table();
  } else {
    head_ = params.Declare({.name = "head",
                            .shape = {config.vocab_size, config.hidden_size},
                            .product_dtype = dtype,
                            .parts = {{"lm_head.weight", {config.vocab_size, config.hidden_size}, 0}},
                            .num_uses = static_cast<int>(1 + config.num_nextn_predict_layers)});
  }
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    const int64_t layer = config.num_hidden_layers + k;
    auto exchange = config.IsMoe(layer) ? make_exchange(layer, first_exchange++) : nullptr;
    const size_t before = params.params().size();
    mtp_.push_back(std::make_unique<MtpLayer>(config, params, std::move(exchange), layer, dtype, rope_table));
    params.SetLayer(before, layer);
  }
}

void LossUnit::Normalize(Lane& lane, StagePass& pass, LossSaved& saved) const {
  const int64_t t = pass.num_tokens();
  saved.rstd = pass.until_input_grad.Allocate(DType::kF32, {t});
  saved.normed = pass.until_input_grad.Allocate(dtype_, {t, hidden_});
  norm_.Forward(lane, saved.hidden, saved.normed, saved.rstd);
}

void LossUnit::PredictAhead(Lane& lane, StagePass& pass, const StepStatistics& statistics, int64_t first_moe,
                            LossSaved& saved) const {
  const int64_t t = pass.num_tokens();
  saved.mtp.resize(mtp_.size());
  Tensor hidden = saved.normed;
  for (size_t k = 0; k < mtp_.size(); ++k) {
    const MtpLayer& layer = *mtp_[k];
    const DeviceTokens& tokens = pass.shifted[k + 1];
    MtpSaved& mtp = saved.mtp[k];
    mtp.embedded = pass.until_input_grad.Allocate(dtype_, {t, hidden_});
    embedding_->Forward(lane, tokens.tokens, mtp.embedded);
    mtp.joined = pass.SavedForWeightGrad().Allocate(dtype_, {t, 2 * hidden_});
    mtp.e_rstd = pass.until_input_grad.Allocate(DType::kF32, {t});
    mtp.h_rstd = pass.until_input_grad.Allocate(DType::kF32, {t});
    layer.enorm.Forward(lane, mtp.embedded, mtp.joined.Slice(1, 0, hidden_), mtp.e_rstd);
    layer.hnorm.Forward(lane, hidden, mtp.joined.Slice(1, hidden_, hidden_), mtp.h_rstd);
    mtp.block.x = pass.until_input_grad.Allocate(dtype_, {t, hidden_});
    mtp.block.y = pass.until_input_grad.Allocate(dtype_, {t, hidden_});
    layer.eh_proj.Forward(lane, mtp.joined, {}, mtp.block.x);
    RouterStatistics router;
    if (layer.block.router() && statistics.load) {
      router.balance_loss = statistics.balance_loss.Slice(0, first_moe, 1).MergeFirst();
      router.load = statistics.load.Slice(0, first_moe++, 1).MergeFirst();
    }
    Arena::Scope scope(pass.until_block_end);
    for (Phase phase : kForwardPhases) layer.block.Forward(phase, lane, pass, tokens, router, nullptr, mtp.block);
    mtp.rstd = pass.until_input_grad.Allocate(DType::kF32, {t});
    mtp.normed = pass.until_input_grad.Allocate(dtype_, {t, hidden_});
    layer.norm.Forward(lane, mtp.block.y, mtp.normed, mtp.rstd);
    hidden = mtp.normed;
  }
}

CrossEntropyArgs LossUnit::ArgsOf(const StagePass& pass, const StepStatistics& statistics,
                                  const HeadLossArgs& head) const {
  CrossEntropyArgs args{.x = head.normed,
                        .head = head_->forward,
                        .labels = pass.shifted[head.k].labels,
                        .rows = pass.rows,
                        .z_loss = head.z_loss,
                        .temperature = head.temperature,
                        .loss = statistics.loss.Slice(0, head.k, 1).MergeFirst(),
                        .z_sum = head.k == 0 && statistics.z_sum ? statistics.z_sum.MergeFirst() : Tensor(),
                        .log_probs = head.log_probs,
                        .scale = head.scale,
                        .token_weights = head.token_weights,
                        .head_backward = {},
                        .dx = head.d_normed,
                        .target = {},
                        .workspace = {}};
  if (head.d_normed) {
    args.head_backward = head_->backward;
    args.target = params_.Target(*head_, pass.batch_rows);
  }
  return args;
}

void LossUnit::HeadLoss(Lane& lane, StagePass& pass, const StepStatistics& statistics, const HeadLossArgs& head) const {
  Arena::Scope scope(lane.scratch);
  CrossEntropyArgs args = ArgsOf(pass, statistics, head);
  if (head.d_normed) {
    const int64_t vocabulary = head_->spec.shape[0];
    args.workspace = lane.scratch.Allocate(
        DType::kU8, {lane.kernels.CrossEntropyWorkspace(pass.num_tokens(), pass.rows, hidden_, vocabulary, dtype_)});
  }
  lane.kernels.LinearCrossEntropy(args);
}

void LossUnit::PolicyHeadLoss(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                              const LossSaved& saved) const {
  Arena::Scope scope(lane.scratch);
  const Tensor log_probs = lane.scratch.Allocate(DType::kF32, {pass.rows, pass.length});
  const Tensor token_weights = lane.scratch.Allocate(DType::kF32, {pass.rows, pass.length});
  HeadLossArgs head{.temperature = weights.temperature, .log_probs = log_probs.MergeFirst(), .normed = saved.normed};
  PolicyLossArgs args = PolicyArgs(pass.policy, weights.rule);
  args.log_probs = args.old_log_probs;
  args.token_weights = token_weights;
  if (weights.policy_pass == PolicyPass::kOffPolicy) {
    HeadLoss(lane, pass, statistics, head);
    args.log_probs = log_probs;
  }
  lane.kernels.PolicyLoss(args);
  head.token_weights = token_weights.MergeFirst();
  head.d_normed = saved.d_normed;
  HeadLoss(lane, pass, statistics, head);
  PolicySums(lane, pass, weights, statistics, log_probs);
}

// On-policy, that they are the old ones is seen here.
void LossUnit::PolicySums(Lane& lane, const StagePass& pass, const LossWeights& weights,
                          const StepStatistics& statistics, Tensor log_probs) const {
  PolicyLossArgs args = PolicyArgs(pass.policy, weights.rule);
  args.log_probs = log_probs;
  args.sums = statistics.policy;
  lane.kernels.PolicyLoss(args);
}

void LossUnit::StudentHeadLoss(Lane& lane, StagePass& pass, const LossWeights& weights,
                               const StepStatistics& statistics, const LossSaved& saved) const {
  Arena::Scope scope(lane.scratch);
  Tensor log_probs;  // of samples of a policy, which are to be the sampler's
  if (pass.policy) log_probs = lane.scratch.Allocate(DType::kF32, {pass.rows, pass.length});
  DivergenceArgs args{.direction = weights.distillation.direction,
                      .student = ArgsOf(pass, statistics,
                                        {.scale = weights.label_scale,
                                         .temperature = weights.temperature,
                                         .log_probs = log_probs ? log_probs.MergeFirst() : Tensor(),
                                         .normed = saved.normed,
                                         .d_normed = saved.d_normed}),
                      .teacher_x = statistics.teacher_hidden.MergeFirst(),
                      .teacher_head = weights.distillation.teacher_head,
                      .divergence = statistics.divergence.MergeFirst()};
  args.student.workspace = lane.scratch.Allocate(DType::kU8, {lane.kernels.DivergenceWorkspace(args)});
  lane.kernels.LinearDivergence(args);
  if (pass.policy) PolicySums(lane, pass, weights, statistics, log_probs);
}

void LossUnit::Loss(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                    LossSaved& saved) const {
  const int64_t t = pass.num_tokens();
  const bool training = pass.mode != PassMode::kForwardOnly;
  saved.d_normed = training ? pass.until_input_grad.Allocate(dtype_, {t, hidden_}) : Tensor();
  if (statistics.hidden) {
    lane.kernels.Cast(saved.normed, statistics.hidden.MergeFirst());
  } else if (training && statistics.teacher_hidden) {
    StudentHeadLoss(lane, pass, weights, statistics, saved);
  } else if (pass.policy) {
    PolicyHeadLoss(lane, pass, weights, statistics, saved);
  } else {
    HeadLoss(lane, pass, statistics,
             {.scale = weights.label_scale,
              .z_loss = weights.z_loss,
              .temperature = weights.temperature,
              .log_probs = statistics.log_probs ? statistics.log_probs.MergeFirst() : Tensor(),
              .normed = saved.normed,
              .d_normed = saved.d_normed});
  }
  for (size_t k = 0; pass.predict_ahead && k < mtp_.size(); ++k) {
    MtpSaved& mtp = saved.mtp[k];
    mtp.d_normed = training ? pass.until_input_grad.Allocate(dtype_, {t, hidden_}) : Tensor();
    HeadLoss(lane, pass, statistics,
             {.k = static_cast<int>(k) + 1,
              .scale = weights.label_scale * weights.mtp,
              .normed = mtp.normed,
              .d_normed = mtp.d_normed});
  }
}

void LossUnit::Logits(Lane& lane, Tensor normed, Tensor logits) const {
  lane.kernels.Gemm({.x = normed, .w = head_->forward, .bias = {}, .addend = {}, .y = logits});
}

void LossUnit::Backward(Lane& lane, StagePass& pass, const LossWeights& weights, LossSaved& saved,
                        Tensor d_hidden) const {
  // Gradients of one hidden state meet in a fixed order: its head, then the next depth.
  for (int k = pass.predict_ahead ? depth() - 1 : -1; k >= 0; --k) MtpBackward(lane, pass, weights, k, saved);
  norm_.Backward(lane, pass, params_, saved.hidden, saved.rstd, saved.d_normed, {}, d_hidden);
}

void LossUnit::MtpBackward(Lane& lane, StagePass& pass, const LossWeights& weights, int k, LossSaved& saved) const {
  const MtpLayer& layer = *mtp_[k];
  const int64_t t = pass.num_tokens();
  MtpSaved& mtp = saved.mtp[k];
  const DeviceTokens& tokens = pass.shifted[k + 1];
  const Tensor hidden = k == 0 ? saved.normed : saved.mtp[k - 1].normed;
  const Tensor d_hidden = k == 0 ? saved.d_normed : saved.mtp[k - 1].d_normed;

  pass.tasks.SetLayer(first_layer_ + k);
  Arena::Scope block_scope(pass.until_block_end);
  mtp.block.dy = pass.until_weight_grad.Allocate(dtype_, {t, hidden_});
  mtp.block.dx = pass.until_weight_grad.Allocate(dtype_, {t, hidden_});
  layer.norm.Backward(lane, pass, params_, mtp.block.y, mtp.rstd, mtp.d_normed, {}, mtp.block.dy);
  for (Phase phase : kBackwardPhases) layer.block.Backward(phase, lane, pass, tokens, weights.balance, mtp.block);

  Arena::Scope scope(lane.scratch);
  const Tensor d_joined = lane.scratch.Allocate(dtype_, {t, 2 * hidden_});
  layer.eh_proj.Backward(lane, pass, params_, "eh_proj", mtp.joined, mtp.block.dx, d_joined);
  layer.hnorm.Backward(lane, pass, params_, hidden, mtp.h_rstd, d_joined.Slice(1, hidden_, hidden_), d_hidden,
                       d_hidden);
  const Tensor d_embedded = lane.scratch.Allocate(dtype_, {t, hidden_});
  layer.enorm.Backward(lane, pass, params_, mtp.embedded, mtp.e_rstd, d_joined.Slice(1, 0, hidden_), {}, d_embedded);
  embedding_->Backward(lane, pass, tokens.tokens, d_embedded);
}

}  // namespace conclave::core
