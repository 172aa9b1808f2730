// SPDX-License-Identifier: Apache-2.0
// The router of a mixture of experts: scores, choice among groups, weights; its balance loss; and the gradient through
// weights and loss. The choice and the bias have no gradient. Ties go to the lower id; any logits, NaN included, give k
// different experts, so that what follows stays inside its arrays.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int kMaxChoice = 32;      // experts of a token, groups of experts
constexpr float kTinySum = 1e-20f;  // keeps a division by a sum of sigmoids finite; no float sum above 1e-13 notices it

// The ids of the k best values, best first; ties to the lower id.
void TopK(const float* values, int n, int k, int32_t* ids) {
  float best[kMaxChoice];
  int found = 0;
  for (int block = 0; block < n; block += kLanes) {
    const int end = std::min(n, block + kLanes);
    // |x| >= the worst of the best holds for every x that is better: most blocks are passed over at once.
    if (found == k && !AnyBeyond(LoadPart(values + block, end - block), best[k - 1])) continue;
    for (int i = block; i < end; ++i) {
      if (found == k && !(values[i] > best[k - 1])) continue;
      int place = found < k ? found++ : k - 1;
      for (; place > 0 && values[i] > best[place - 1]; --place) {
        best[place] = best[place - 1];
        ids[place] = ids[place - 1];
      }
      best[place] = values[i];
      ids[place] = i;
    }
  }
}

// Ascending. Not std::sort: its code would be shared between the instruction sets.
void SortIds(int32_t* ids, int n) {
  for (int i = 1; i < n; ++i) {
    const int32_t id = ids[i];
    int place = i;
    for (; place > 0 && ids[place - 1] > id; --place) ids[place] = ids[place - 1];
    ids[place] = id;
  }
}

float SumLanes(const float* x, int64_t n) {
  F32x16 sum = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) { sum = sum + LoadLanes(x + i, lanes); });
  return Sum(sum);
}

void SigmoidScores(const float* logits, int64_t n, float* scores) {
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 logit = LoadLanes(logits + i, lanes);
    StoreLanes(scores + i, Sigmoid(logit), lanes);
  });
}

void SoftmaxScores(const float* logits, int64_t n, float* scores) {
  float largest = logits[0];
  for (int64_t i = 1; i < n; ++i) largest = logits[i] > largest ? logits[i] : largest;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(scores + i, Exp(LoadLanes(logits + i, lanes) - Set(largest)), lanes);
  });
  const F32x16 sum = Set(SumLanes(scores, n));
  ForEachVector(n, [&](int64_t i, auto lanes) { StoreLanes(scores + i, LoadLanes(scores + i, lanes) / sum, lanes); });
}

// Sets to -inf the selection scores outside the best groups; a group counts its two best.
void KeepBestGroups(const RouterArgs& args, int num_experts, float* selection) {
  const int size = num_experts / args.num_groups;
  float group_scores[kMaxChoice];
  int32_t kept[kMaxChoice];
  for (int g = 0; g < args.num_groups; ++g) {
    const float* const group = selection + g * size;
    int32_t best[2];
    TopK(group, size, std::min(size, 2), best);
    group_scores[g] = size == 1 ? group[0] : group[best[0]] + group[best[1]];
  }
  TopK(group_scores, args.num_groups, args.groups_kept, kept);
  SortIds(kept, args.groups_kept);
  for (int g = 0, next = 0; g < args.num_groups; ++g) {
    if (next < args.groups_kept && kept[next] == g) {
      ++next;
    } else {
      std::fill_n(selection + g * size, size, -__builtin_inff());
    }
  }
}

// What weights are divided by: the chain over ascending experts.
float ChosenSum(const RouterArgs& args, const float* scores, const int32_t* experts) {
  float sum = 0;
  for (int j = 0; j < args.top_k; ++j) sum += scores[experts[j]];
  return args.scoring == RouterArgs::Scoring::kSigmoid ? sum + kTinySum : sum;
}

// selection: room for E scores.
void RouteToken(const RouterArgs& args, const float* logits, int num_experts, float* selection, float* scores,
                int32_t* experts, float* weights) {
  if (args.scoring == RouterArgs::Scoring::kSigmoid) {
    SigmoidScores(logits, num_experts, scores);
  } else {
    SoftmaxScores(logits, num_experts, scores);
  }
  const float* const bias = args.bias.As<float>();
  ForEachVector(num_experts, [&](int64_t i, auto lanes) {
    const F32x16 score = LoadLanes(scores + i, lanes);
    StoreLanes(selection + i, bias ? score + LoadLanes(bias + i, lanes) : score, lanes);
  });
  if (args.groups_kept < args.num_groups) KeepBestGroups(args, num_experts, selection);
  TopK(selection, num_experts, args.top_k, experts);
  SortIds(experts, args.top_k);
  const float sum = args.normalize ? ChosenSum(args, scores, experts) : 1;
  for (int j = 0; j < args.top_k; ++j) weights[j] = scores[experts[j]] / sum * args.scale;
}

constexpr int64_t kBalanceScratch = 2 * sizeof(double) + sizeof(float);  // bytes per expert

// Fractions and loss of one row of S tokens. scratch: E counts of choices, E sums of shares, E shares of one token.
double BalanceRow(const BalanceLossArgs& args, int64_t row, void* scratch, float* fractions) {
  const int64_t length = args.scores.size(1), num_experts = args.scores.size(2);
  int64_t* const counts = static_cast<int64_t*>(scratch);
  double* const shares = reinterpret_cast<double*>(counts + num_experts);
  float* const token_shares = reinterpret_cast<float*>(shares + num_experts);
  std::fill_n(counts, num_experts, 0);
  std::fill_n(shares, num_experts, 0.0);
  int64_t tokens = 0;
  for (int64_t s = 0; s < length; ++s) {
    if (args.positions.As<int32_t>()[row * length + s] < 0) continue;
    ++tokens;
    const float* const scores = args.scores.As<float>() + (row * length + s) * num_experts;
    int32_t best[kMaxChoice];
    TopK(scores, static_cast<int>(num_experts), args.top_k, best);
    for (int j = 0; j < args.top_k; ++j) ++counts[best[j]];
    const F32x16 sum = Set(SumLanes(scores, num_experts) + kTinySum);
    ForEachVector(num_experts, [&](int64_t i, auto lanes) {
      StoreLanes(token_shares + i, LoadLanes(scores + i, lanes) / sum, lanes);
    });
    for (int64_t e = 0; e < num_experts; ++e) shares[e] += static_cast<double>(token_shares[e]);
  }
  double loss = 0;
  for (int64_t e = 0; e < num_experts && tokens > 0; ++e) {
    const double mean_choices = static_cast<double>(counts[e]) / static_cast<double>(args.top_k * tokens);
    fractions[e] = static_cast<float>(static_cast<double>(num_experts) * mean_choices);
    loss += static_cast<double>(fractions[e]) * (shares[e] / static_cast<double>(tokens));
  }
  if (tokens == 0) std::fill_n(fractions, num_experts, 0.0f);
  return loss;
}

// d_scores of the weights: w_j = scale s_j / sum_i s_i, or scale s_j.
void AddWeightGradient(const RouterArgs& args, const float* scores, const int32_t* experts, const float* d_weights,
                       float* d_scores) {
  const float sum = args.normalize ? ChosenSum(args, scores, experts) : 1;
  float mean = 0;  // of d_weights, weighted by the shares
  for (int j = 0; j < args.top_k && args.normalize; ++j) mean += d_weights[j] * (scores[experts[j]] / sum);
  for (int j = 0; j < args.top_k; ++j) d_scores[experts[j]] += args.scale * (d_weights[j] - mean) / sum;
}

// d_scores of weight * sum_i f_i p_i, p_i = s_i / sum_j s_j.
void AddBalanceGradient(const float* fractions, const float* scores, float weight, int64_t n, float* d_scores) {
  const float sum = SumLanes(scores, n) + kTinySum;
  F32x16 products = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    products = Fma(LoadLanes(fractions + i, lanes), LoadLanes(scores + i, lanes), products);
  });
  const F32x16 mean = Set(Sum(products) / sum), factor = Set(weight / sum);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 d = Fma(LoadLanes(fractions + i, lanes) - mean, factor, LoadLanes(d_scores + i, lanes));
    StoreLanes(d_scores + i, d, lanes);
  });
}

void ScoresBackward(RouterArgs::Scoring scoring, const float* scores, const float* d_scores, int64_t n,
                    float* d_logits) {
  F32x16 products = Set(0);
  if (scoring == RouterArgs::Scoring::kSoftmax) {
    ForEachVector(n, [&](int64_t i, auto lanes) {
      products = Fma(LoadLanes(scores + i, lanes), LoadLanes(d_scores + i, lanes), products);
    });
  }
  const F32x16 mean = Set(Sum(products)), one = Set(1);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 s = LoadLanes(scores + i, lanes), d = LoadLanes(d_scores + i, lanes);
    StoreLanes(d_logits + i, scoring == RouterArgs::Scoring::kSoftmax ? s * (d - mean) : d * (s * (one - s)), lanes);
  });
}

}  // namespace

void CpuKernels::Router(const RouterArgs& args) {
  const int64_t num_experts = args.logits.size(1), k = args.top_k;
  CHECK_LE(k, kMaxChoice);
  CHECK_LE(args.num_groups, kMaxChoice);
  CHECK_EQ(num_experts % args.num_groups, 0);
  CHECK_LE(k, args.groups_kept * (num_experts / args.num_groups));
  const Rows<const float> logits(args.logits);
  const Rows<float> all_scores(args.scores);
  pool_.ParallelFor(args.logits.size(0), RowGrain(4 * num_experts), [&](int64_t begin, int64_t end, int thread) {
    float* const selection = static_cast<float*>(pool_.Scratch(thread, num_experts * SizeOf(DType::kF32)));
    for (int64_t t = begin; t < end; ++t) {
      float* const scores = all_scores[t];
      int32_t* const experts = args.experts.As<int32_t>() + t * k;
      float* const weights = args.weights.As<float>() + t * k;
      if (args.positions.As<int32_t>()[t] < 0) {
        std::fill_n(scores, num_experts, 0.0f);
        std::fill_n(experts, k, -1);
        std::fill_n(weights, k, 0.0f);
      } else {
        RouteToken(args, logits[t], static_cast<int>(num_experts), selection, scores, experts, weights);
      }
    }
  });
}

void CpuKernels::BalanceLoss(const BalanceLossArgs& args) {
  const int64_t num_experts = args.scores.size(2);
  CHECK_LE(args.top_k, kMaxChoice);
  CHECK(args.scores.Contiguous());
  pool_.ParallelFor(args.scores.size(0), 1, [&](int64_t begin, int64_t end, int thread) {
    void* const scratch = pool_.Scratch(thread, num_experts * kBalanceScratch);
    for (int64_t row = begin; row < end; ++row) {
      args.loss.As<double>()[row] = BalanceRow(args, row, scratch, args.fractions.As<float>() + row * num_experts);
    }
  });
}

void CpuKernels::RouterBackward(const RouterBackwardArgs& args) {
  const RouterArgs& forward = args.forward;
  const int64_t num_tokens = forward.logits.size(0), num_experts = forward.logits.size(1), k = forward.top_k;
  const int64_t length = args.fractions ? num_tokens / std::max<int64_t>(1, args.fractions.size(0)) : num_tokens;
  const int32_t* const positions = forward.positions.As<int32_t>();
  const Rows<const float> all_scores(forward.scores);
  const Rows<float> all_d_logits(args.d_logits);
  pool_.ParallelFor(num_tokens, RowGrain(4 * num_experts), [&](int64_t begin, int64_t end, int thread) {
    float* const d_scores = static_cast<float*>(pool_.Scratch(thread, num_experts * SizeOf(DType::kF32)));
    int64_t row = -1;
    float balance_weight = 0;  // of one token of `row`
    for (int64_t t = begin; t < end; ++t) {
      if (positions[t] < 0) {
        std::fill_n(all_d_logits[t], num_experts, 0.0f);
        continue;
      }
      if (args.fractions && row != t / length) {
        row = t / length;
        const int32_t* const row_positions = positions + row * length;
        const int64_t padding = std::count_if(row_positions, row_positions + length, [](int32_t p) { return p < 0; });
        balance_weight = args.balance_scale / static_cast<float>(length - padding);
      }
      std::fill_n(d_scores, num_experts, 0.0f);
      AddWeightGradient(forward, all_scores[t], forward.experts.As<int32_t>() + t * k,
                        args.d_weights.As<float>() + t * k, d_scores);
      if (args.fractions) {
        AddBalanceGradient(args.fractions.As<float>() + row * num_experts, all_scores[t], balance_weight, num_experts,
                           d_scores);
      }
      ScoresBackward(forward.scoring, all_scores[t], d_scores, num_experts, all_d_logits[t]);
    }
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
