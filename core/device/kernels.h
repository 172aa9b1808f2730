// SPDX-License-Identifier: Apache-2.0
// THE list of operations: one virtual each, with formula and shapes. A backend that lacks one does not compile. An
// object is bound to one stream of one device; an operation enqueues and returns nothing. Inputs come first, outputs
// last.
//
// Legend: T tokens of a micro-batch = rows x length (token t stands in row t / length); R routed rows; N, K matrix
// sizes;
//   E experts; k experts per token; H heads; V vocabulary; D hidden size. "compute dtype" is f32 or bf16; sums are f32.
//
// Laws that every operation keeps (tests/ops checks each one):
//   batch   the bits of a row depend neither on other rows of the call nor on their number
//   thread  bits do not depend on the number of threads
//   machine f32 bits do not depend on the instruction set: each sum has one order (a chain over K or over tokens; or 16
//           virtual lanes - lane i takes elements i, i + 16, ... - joined by one tree), FMA where the formula says fma
//   exact   a parameter gradient in i64 is rounded once per (row, use) and added (core/base/fixed_sum.h)
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"

namespace conclave::core {

// The panels of one matrix, or of E equally shaped ones, in the layout of a backend. Filled once per optimizer step.
struct PackedWeight {
  Tensor panels;         // [bytes] u8; opaque
  DType dtype;           // dtype of the products
  int64_t matrices = 1;  // E for grouped weights
  int64_t out = 0;       // N: columns of the result
  int64_t in = 0;        // K: length of the sums
};

// Where a parameter's gradient goes. `limit` = range (fixed_sum.h) / (rows x uses of the parameter in a step); a
// contribution that is not finite or not below it sets *flag to 1 and makes the step void.
struct GradientTarget {
  Tensor sum;   // the parameter's shape; i64: exact, f32: contributions are added as floats, in no stated order
  Tensor flag;  // i32 [1], sticky
  float limit = 0;
};

struct GemmArgs {
  Tensor x;        // [T, K] compute dtype of w (f32 or bf16); rows may be strided
  PackedWeight w;  // out N, in K
  Tensor bias;     // [N] f32, optional
  Tensor addend;   // [T, N] f32 or bf16, optional
  Tensor y;        // [T, N] f32 or bf16
};

struct GroupedGemmArgs {
  Tensor x;               // [max_rows, K]; rows of expert e are [offsets[e], offsets[e + 1])
  PackedWeight w;         // E matrices
  Tensor expert_offsets;  // i32 [E + 1], on the device; rows at and after offsets[E] are not touched
  Tensor y;               // [max_rows, N]
};

struct HeadGemmArgs {
  Tensor x;        // [T, H, K] compute dtype of w
  PackedWeight w;  // H matrices
  Tensor y;        // [T, H, N] f32 or bf16
};

// One weight gradient: for each segment an f32 chain over its tokens in order, then one rounding, then an integer sum.
struct WeightGradArgs {
  Tensor dy;               // [T or max_rows, N]
  Tensor x;                // [T or max_rows, K]
  Tensor segment_offsets;  // i32 [E * rows + 1], expert-major: tokens of (expert e, row r) are segment e * rows + r
  int64_t matrices = 1;    // E
  DType product_dtype =
      DType::kF32;        // dy and x are rounded to it (bf16: token pairs restart at every segment, zero-padded)
  GradientTarget target;  // [E, N, K] or [N, K]
};

struct AttentionArgs {
  Tensor q;          // [B, Sq, H, n + r]
  Tensor k;          // [B, Sk, G, n]   G key heads; query head h reads key head h / (H / G)
  Tensor k_shared;   // [B, Sk, r]      optional: rotary part of the key that all heads share (MLA); r = 0 without it
  Tensor v;          // [B, Sk, G, dv]
  Tensor positions;  // i32 [B, Sq]    position within the document; -1 = padding: zero output, nothing read
  Tensor key_index;  // i32 [B, Sq]    optional: index of the token's own key in 0..Sk; default: s. Keys read:
                     //                [key_index - position, key_index]
  float scale = 1;   // above 0
  Tensor out;        // [B, Sq, H, dv]
  Tensor lse;        // f32 [B, Sq, H]  log of the sum of exp(scale q k); 0 for padding
};

struct AttentionBackwardArgs {
  AttentionArgs forward;  // Sq == Sk, no key_index; out and lse as computed
  Tensor d_out;           // [B, S, H, dv]
  Tensor dq;              // [B, S, H, n + r]
  Tensor dk;              // [B, S, G, n]
  Tensor dk_shared;       // [B, S, r]  sum over heads in ascending order, f32, rounded once; with k_shared
  Tensor dv;              // [B, S, G, dv]
};

enum class RopeLayout { kInterleaved, kHalves };  // pairs (2i, 2i + 1) or (i, i + r / 2)
enum class RopeDirection { kForward, kBackward };

struct RouterArgs {
  enum class Scoring { kSigmoid, kSoftmax };
  Tensor logits;     // f32 [T, E]
  Tensor bias;       // f32 [E], optional: added to scores for the choice only
  Tensor positions;  // i32 [T]; -1 = padding: experts -1, weights 0, scores 0
  Scoring scoring = Scoring::kSigmoid;
  int num_groups = 1,
      groups_kept = 1;  // a group's score: sum of its two best biased scores; others are masked with -inf
  int top_k = 1;
  bool normalize = true;  // weights divided by their sum (+ 1e-20 for sigmoid)
  float scale = 1;
  Tensor replayed = {};  // i32 [T, k], optional: experts of an earlier call; stand for the choice, padding aside
  Tensor scores;         // f32 [T, E]: sigmoid or softmax of the logits
  Tensor experts;        // i32 [T, k] ascending; ties in the choice go to the lower id
  Tensor weights;        // f32 [T, k] of experts[t, j]
  Tensor flips = {};     // i64 [1], optional, with `replayed`: += number of tokens whose choice would be another
};

// Balance loss of one row (DeepSeek-V3 report, section 2.1.2): sum_i f_i P_i with f_i = E / (k n) * number of tokens
// that have i among the k best of their unbiased scores (ties to the lower id), P_i = mean_t s_ti / sum_j s_tj, n =
// tokens of the row that are not padding.
struct BalanceLossArgs {
  Tensor scores;     // f32 [rows, S, E]
  Tensor positions;  // i32 [rows, S]
  int top_k = 1;
  Tensor fractions;  // f32 [rows, E]: f_i
  Tensor loss;       // f64 [rows]
};

struct RouterBackwardArgs {
  RouterArgs forward;       // the arguments of Router, outputs included
  Tensor d_weights;         // f32 [T, k]
  Tensor fractions;         // f32 [rows, E] of BalanceLoss; optional
  float balance_scale = 0;  // what one row's balance loss weighs: alpha / rows of the global batch
  Tensor d_logits;          // f32 [T, E]
};

enum class Repeats { kKeep, kOnce };

// Which routed row holds which (token, choice). Routed rows are ordered by (expert, row of the batch, position).
struct Permutation {
  Tensor slot;             // i32 [T, k]: routed row of (token, choice); -1 for padding
  Tensor token;            // i32 [max_rows]: token of a routed row
  Tensor expert_offsets;   // i32 [E + 1]
  Tensor segment_offsets;  // i32 [E * rows + 1]
};

struct CombineArgs {
  Tensor rows;    // [max_rows, D]
  Tensor slot;    // i32 [T, k]
  Tensor shared;  // [T, D], optional: start of the chain
  Tensor addend;  // [T, D], optional: end of the chain (residual; router gradient)
  Tensor y;       // [T, D]
};

struct CrossEntropyArgs {
  Tensor x;           // [T, D] normed hidden states, compute dtype
  PackedWeight head;  // out V, in D
  Tensor labels;      // i32 [T], -1 = none
  int64_t rows = 1;
  float z_loss = 0;       // adds z_loss * lse^2 to each label's loss
  float temperature = 1;  // logits are divided by it, as in Sample
  Tensor loss;            // f64 [rows]: sum over the row's labels of (lse - logit[label]) in position order
  Tensor z_sum;           // f64 [rows]: the same of lse^2; optional
  Tensor log_probs;       // f32 [T]: logit[label] - lse, 0 without label; optional
  // The rest only for training; dx empty: forward only.
  float scale = 0;  // d_logits = scale * (softmax - onehot + z term) / temperature; 1 / (labels of the global batch),
                    // times a weight
  Tensor token_weights = {};   // f32 [T], optional: stand for `scale`, token by token; without z_loss
  PackedWeight head_backward;  // out D, in V
  Tensor dx;                   // [T, D]
  GradientTarget target;       // [V, D]; unit of rounding (row, this use)
  Tensor workspace;            // u8, CrossEntropyWorkspace bytes; only with dx
};

// How far the student's distribution of the next token, softmax(logits / temperature), is from the teacher's.
struct DivergenceArgs {
  enum class Direction {
    kForward,  // KL(teacher || student); d_logits = scale (p_student - p_teacher) / temperature
    kReverse,  // KL(student || teacher); d_logits = scale p_student (log p_student - log p_teacher - KL) / temperature
  };
  Direction direction = Direction::kForward;
  CrossEntropyArgs student;   // with dx, without z_loss; its sums are those of the cross entropy, its gradients are not
  Tensor teacher_x;           // [T, D'] normed hidden states, compute dtype
  PackedWeight teacher_head;  // out V, in D'
  Tensor divergence;          // f64 [rows]: sum over the row's labels in position order
};

// What of a policy's change counts, and how much (PolicyLoss).
struct PolicyRule {
  enum class Ratio { kToken, kSequence };  // of probabilities: of each token, or their geometric mean by sequence
  // Schulman's estimators of the divergence from the reference; kWeightedK3: k3 times the ratio by token, which is
  // right for samples of an older policy, and whose gradient is that of the divergence (DeepSeek-V3.2, TRL).
  enum class Kl { kK1, kK2, kK3, kWeightedK3 };
  Ratio ratio = Ratio::kToken;
  double clip_low = 0.2, clip_high = 0.2;  // the ratio counts from 1 - clip_low up to 1 + clip_high
  double dual = 0;                         // where the advantage is negative it counts up to this; 0: no bound
  double cap = 0;                          // above 0: the ratio is a constant weight, at most this; no clipping
  double kl = 0;                           // weight of the divergence
  Kl estimator = Kl::kK3;
};

// What PolicyLoss sums over a row's tokens; the last kPolicyMaxima are greatest values instead.
enum class PolicySum {
  kLoss,
  kTokens,
  kClippedLow,   // tokens whose ratio is below the bound, their advantage being negative
  kClippedHigh,  // above it, their advantage being positive; or above the cap
  kDualClipped,
  kRatio,
  kKl,               // r - 1 - log r, r by token: divergence of the old policy from the present one
  kReferenceKl,      // the same of the present one from the reference (k3)
  kDifference,       // |log_prob - old_log_prob|
  kDifferingTokens,  // those where they are not the same bits
  kLargestDifference,
  kLargestRatio,  // by token
};
inline constexpr int64_t kPolicySums = static_cast<int64_t>(PolicySum::kLargestRatio) + 1;
inline constexpr int64_t kPolicyMaxima = 2;

struct PolicyLossArgs {
  PolicyRule rule = {};
  Tensor log_probs;            // f32 [rows, S] of the policy that learns, and the same of the one that sampled
  Tensor old_log_probs;        // f32 [rows, S]
  Tensor reference_log_probs;  // f32 [rows, S]; optional where rule.kl is 0
  Tensor advantages;           // f32 [rows, S]
  Tensor weights;              // f32 [rows, S], what a token's loss counts in that of the global batch
  Tensor sequences;            // i32 [rows, S]: which response a token belongs to, in runs; -1 = none: no loss
  Tensor token_weights;        // f32 [rows, S]: minus the gradient of log_probs; 0 without sequence; optional
  Tensor sums;                 // f64 [rows, kPolicySums], by PolicySum; optional
};

struct AdamWArgs {
  Tensor gradient;  // i64 or f32
  float clip = 1;   // factor on the gradient
  float lr = 0, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0;
  float correction1 = 1, correction2 = 1;  // 1 - beta^step
  Tensor master, m, v;                     // in and out; f32, m and v also bf16: rounded when stored, nearest-even
};

struct SampleArgs {
  Tensor logits;          // f32 [B, V]
  float temperature = 1;  // 0: greedy, ties to the lower id
  float top_p = 1, min_p = 0;
  int top_k = 0;     // 0: off
  uint64_t key = 0;  // random key; the draw of sequence b at step i is Philox(key, (ids[b] << 32) + i)
  Tensor draw_ids;   // i64 [B]: (sample << 32) + position
  Tensor tokens;     // i32 [B]
  Tensor log_probs;  // f32 [B]: of log-softmax(logits / T) over the whole vocabulary, before filters; T = 1 if greedy
  Tensor filtered_log_probs =
      {};               // f32 [B], optional: of the distribution that was drawn from; without filters the same
  Tensor entropy = {};  // f32 [B], optional: of log-softmax(logits / T), nats; 0 if greedy
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  // ---- Matrices ---------------------------------------------------------------------------------------------------
  // Bytes of PackedWeight::panels.
  virtual int64_t PackedBytes(DType dtype, int64_t matrices, int64_t out, int64_t in) const = 0;
  // weights f32 [E, N, K] or [N, K], rounded to packed.dtype. Forward panels give y = x W^T (out N, in K);
  // backward panels give dx = dy W (out K, in N). Either may have no panels: then it is skipped.
  virtual void PackWeight(Tensor weights, const PackedWeight& forward, const PackedWeight& backward) = 0;
  // y = round(sum_k x[t, k] w[n, k] + bias[n] + addend[t, n]): one chain in ascending k, then bias, then addend.
  virtual void Gemm(const GemmArgs& args) = 0;
  // The same with the matrix of the row's expert.
  virtual void GroupedGemm(const GroupedGemmArgs& args) = 0;
  // The same with the matrix of the head.
  virtual void HeadGemm(const HeadGemmArgs& args) = 0;
  virtual void WeightGrad(const WeightGradArgs& args) = 0;
  // target[n] += sum over the tokens of each row in order of dy[t, n]; dy [T, N], row_offsets i32 [rows + 1].
  virtual void BiasGrad(Tensor dy, Tensor row_offsets, const GradientTarget& target) = 0;

  // ---- Normalization and activation -------------------------------------------------------------------------------
  // y = x * rstd * gain over the last dim n, rstd = 1 / sqrt(mean(x^2) + eps). x, y [T, n] or [T, H, n]; gain f32 [n];
  // rstd f32 [T] or [T, H].
  virtual void RmsNorm(Tensor x, Tensor gain, float eps, Tensor y, Tensor rstd) = 0;
  // dx = rstd * (g dy - x rstd^2 mean(x g dy)) + d_residual (optional, same shape); gain gradient: per row the chain
  // over tokens (then heads) of dy x rstd. row_offsets i32 [rows + 1] in tokens.
  virtual void RmsNormBackward(Tensor x, Tensor gain, Tensor rstd, Tensor dy, Tensor d_residual, Tensor row_offsets,
                               Tensor dx, const GradientTarget& target) = 0;
  // h = silu(g) * u * weight; gate_up [T, 2 I] = g | u, row_weight f32 [T] optional, h [T, I]. num_rows i32 [1]
  // optional: number of rows that count (routed rows known on the device only).
  virtual void SwiGlu(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor h) = 0;
  // d_gate_up [T, 2 I]; d_row_weight f32 [T] with row_weight: the 16-lane sum of dh silu(g) u.
  virtual void SwiGluBackward(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor dh, Tensor d_gate_up,
                              Tensor d_row_weight) = 0;

  // ---- Attention ----------------------------------------------------------------------------------------------------
  // Rotates x [T, H, r] in place by the angle of each token's position; table f32 [max_position, r]: cos | sin, r / 2
  // each. Padding is left alone. kBackward rotates by the negative angle.
  virtual void Rope(Tensor x, Tensor positions, Tensor table, RopeLayout layout, RopeDirection direction) = 0;
  // Keys are walked in fixed blocks counted from the document's first token; no S x S tensor.
  virtual void Attention(const AttentionArgs& args) = 0;
  virtual void AttentionBackward(const AttentionBackwardArgs& args, Tensor workspace) = 0;
  virtual int64_t AttentionBackwardWorkspace(const AttentionBackwardArgs& args) const = 0;  // bytes
  // cache[b, key_index[b, s]] = x[b, s]; x [B, Sq, W], key_index i32 [B, Sq] (-1: nothing), cache [B, capacity, W].
  virtual void StoreInCache(Tensor x, Tensor key_index, Tensor cache) = 0;

  // ---- Mixture of experts -------------------------------------------------------------------------------------------
  virtual void Router(const RouterArgs& args) = 0;
  virtual void BalanceLoss(const BalanceLossArgs& args) = 0;
  virtual void RouterBackward(const RouterBackwardArgs& args) = 0;
  // load[e] += number of tokens that chose e; load i64 [E].
  virtual void CountExperts(Tensor experts, Tensor load) = 0;
  // From experts i32 [T, k] (-1 = none) to a permutation; row_offsets i32 [rows + 1] in tokens.
  virtual void BuildPermutation(Tensor experts, int64_t num_experts, Tensor row_offsets, const Permutation& out) = 0;
  // y[t, j] = map[experts[t, j]], -1 stays; with kOnce also -1 where an earlier choice of the token has the same value:
  // the ranks a token goes to. experts, y i32 [T, k]; map i32 [E].
  virtual void MapExperts(Tensor experts, Tensor map, Repeats repeats, Tensor y) = 0;
  // list = the entries of slot i32 [T, k] that are not -1, in order; list i32 [at least as many].
  virtual void ListSlots(Tensor slot, Tensor list) = 0;
  // y[i] = x[token[i]] for i < expert_offsets[E]. x [T, D], y [max_rows, D] of the same dtype.
  virtual void GatherRows(Tensor x, const Permutation& permutation, Tensor y) = 0;
  // routed[slot[t, j]] = per_choice[t, j], and back; per_choice f32 [T, k] (0 for padding), routed f32 [max_rows].
  virtual void ScatterChoices(Tensor per_choice, const Permutation& permutation, Tensor routed) = 0;
  virtual void GatherChoices(Tensor routed, const Permutation& permutation, Tensor per_choice) = 0;
  // y[t] = round(shared[t] + rows[slot[t, 0]] + rows[slot[t, 1]] + ... + addend[t]): one f32 chain, ids ascending.
  virtual void Combine(const CombineArgs& args) = 0;

  // ---- Embedding, head, loss ----------------------------------------------------------------------------------------
  // y[t] = table[ids[t]] rounded to y.dtype; table f32 [V, D]; ids i32 [T], -1 gives zeros.
  virtual void Embedding(Tensor table, Tensor ids, Tensor y) = 0;
  // target[id] += per row the f32 chain over the tokens with that id, in position order. ids i32 [T], dy [T, D].
  // workspace: EmbeddingGradWorkspace bytes.
  virtual void EmbeddingGrad(Tensor ids, Tensor dy, Tensor row_offsets, const GradientTarget& target,
                             Tensor workspace) = 0;
  virtual int64_t EmbeddingGradWorkspace(int64_t tokens, int64_t hidden) const = 0;  // bytes
  // Cross entropy fused with the head: loss, and (with dx) both gradients in the same call; never a [T, V] tensor.
  // The vocabulary is reduced in fixed blocks, the same as in Sample.
  virtual void LinearCrossEntropy(const CrossEntropyArgs& args) = 0;
  virtual int64_t CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                        DType dtype) const = 0;  // bytes
  // Divergence of teacher and student at each label, fused with both heads in the same way, and its gradients for the
  // student. Where logits are equal to the bit, all of it is exactly 0.
  virtual void LinearDivergence(const DivergenceArgs& args) = 0;
  // Bytes of student.workspace, by shapes and dtypes.
  virtual int64_t DivergenceWorkspace(const DivergenceArgs& args) const = 0;
  // Row by row sum_t weight_t l_t and its gradient; r = exp(log_prob - old), A the advantage, d = reference - log_prob:
  //   l = -min(r A, clamp(r, 1 - clip_low, 1 + clip_high) A), r bounded by dual where A < 0; with cap: -min(r, cap) A
  //   log_prob, the ratio being a constant; + kl k(d), k1 = -d, k2 = d^2 / 2, k3 = e^d - d - 1, or r k3.
  // In f64 and position order; equal log-probabilities have a ratio of exactly 1. With Ratio::kSequence r is exp(mean
  // of log_prob - old) of the sequence.
  virtual void PolicyLoss(const PolicyLossArgs& args) = 0;
  virtual void Sample(const SampleArgs& args) = 0;

  // ---- Elementwise
  // ----------------------------------------------------------------------------------------------------
  virtual void Zero(Tensor x) = 0;
  // x[i] = std * normal number i of stream `key` (StandardNormal in rng.h): f32, contiguous.
  virtual void FillNormal(Tensor x, uint64_t key, float std) = 0;
  virtual void Cast(Tensor x, Tensor y) = 0;  // f32 <-> bf16, nearest-even; equal dtypes copy; strided rows allowed
  virtual void Add(Tensor a, Tensor b, Tensor y) = 0;  // y = round(a + b)

  // ---- Optimizer
  // ------------------------------------------------------------------------------------------------------ limbs i64
  // [3] += sum of squares of the gradient: f64 per dim-0 slice in 16 lanes, then fixed_sum.h.
  virtual void SumSquares(Tensor gradient, Tensor limbs) = 0;
  // g = clip * gradient; m, v moments; master -= lr (m / c1 / (sqrt(v / c2) + eps) + weight_decay master), decay first
  // as in PyTorch. Clears the gradient.
  virtual void AdamW(const AdamWArgs& args) = 0;
  // ema += (1 - decay) (master - ema)
  virtual void Ema(Tensor master, float decay, Tensor ema) = 0;
  // bias[e] += speed * sign(total - E * load[e]), integers inside the sign; load i64 [E], bias f32 [E].
  virtual void UpdateRouterBias(Tensor load, float speed, Tensor bias) = 0;
};

}  // namespace conclave::core
