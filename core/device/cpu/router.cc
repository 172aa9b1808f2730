// SPDX-License-Identifier: Apache-2.0
// The router of a mixture of experts: scores, choice among groups, weights; its balance loss; and the gradient through
// weights and loss. The choice and the bias have no gradient, so a choice that is replayed has the same one. Ties go to
// the lower id; any logits, NaN included, give k different experts, so that what follows stays inside its arrays.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/carver.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int kMaxChoice = 32;  // experts of a token, groups of experts; whole vectors
constexpr int64_t kLeastBackwardTokens = 64;
constexpr float kTinySum = 1e-20f;  // keeps a division by a sum of sigmoids finite; no float sum above 1e-13 notices it

constexpr float kLowest = -__builtin_inff();

// Selection scores are kept in arrays of whole vectors: NaN is made -inf, so that they have an order, and the rest of
// the last vector is filled with -inf.
int64_t PaddedSize(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

F32x16 Padded(F32x16 x, WholeVector) { return Max(x, Set(kLowest)); }
F32x16 Padded(F32x16 x, PartOfVector part) { return KeepLanes(Max(x, Set(kLowest)), part.lanes, Set(kLowest)); }

// The largest value below a bound, and the number of values that are not below it.
struct Below {
  float largest;
  int others;
};
Below LargestBelow(const float* values, int64_t padded, float bound) {
  const F32x16 limit = Set(bound), lowest = Set(kLowest), one = Set(1), zero = Set(0);
  F32x16 largest = lowest, others = zero;
  for (int64_t i = 0; i < padded; i += kLanes) {
    const F32x16 x = Load(values + i);
    largest = Max(largest, SelectLess(x, limit, x, lowest));
    others = others + SelectLess(x, limit, zero, one);
  }
  return {Largest(largest), static_cast<int>(Sum(others))};
}

// The places of the k best of n values, ascending; ties go to the lower place. From one value to the next smaller one
// until k are not below it: branches depend on ties alone.
void BestPlaces(const float* values, int64_t n, int k, int32_t* places) {
  const int64_t padded = PaddedSize(n);
  F32x16 all = Load(values);
  for (int64_t i = kLanes; i < padded; i += kLanes) all = Max(all, Load(values + i));
  float worst = Largest(all);  // of the chosen
  int better = 0;              // values above it
  for (;;) {
    const Below below = LargestBelow(values, padded, worst);
    if (below.others >= k) break;
    better = below.others;
    worst = below.largest;
  }
  int ties = k - better;
  for (int64_t begin = 0; k > 0; begin += 64) {
    uint64_t rest = 0;
    for (int64_t i = begin; i < std::min(begin + 64, padded); i += kLanes) {
      rest |= static_cast<uint64_t>(~MaskLess(Load(values + i), Set(worst)) & 0xffff) << (i - begin);
    }
    for (; rest != 0 && k > 0; rest &= rest - 1) {
      const int64_t place = begin + __builtin_ctzll(rest);
      const bool is_tie = values[place] == worst, chosen = !is_tie || ties > 0;
      *places = static_cast<int32_t>(place);  // the next one overwrites it unless it is chosen
      places += chosen;
      k -= chosen;
      ties -= is_tie;
    }
  }
}

float SumLanes(const float* x, int64_t n) {
  F32x16 sum = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) { sum = sum + LoadLanes(x + i, lanes); });
  return Sum(sum);
}

void SigmoidScores(const float* logits, int64_t n, float* scores) {
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 logit = StreamLanes(logits + i, lanes);
    StoreLanes(scores + i, Sigmoid(logit), lanes);
  });
}

void SoftmaxScores(const float* logits, int64_t n, float* scores) {
  F32x16 maxima = Set(kLowest);
  ForEachVector(n, [&](int64_t i, auto lanes) { maxima = Max(maxima, Padded(StreamLanes(logits + i, lanes), lanes)); });
  const float largest = Largest(maxima);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(scores + i, Exp(LoadLanes(logits + i, lanes) - Set(largest)), lanes);
  });
  const F32x16 sum = Set(SumLanes(scores, n));
  ForEachVector(n, [&](int64_t i, auto lanes) { StoreLanes(scores + i, LoadLanes(scores + i, lanes) / sum, lanes); });
}

// The sum of the two best of a group, or its only score.
float GroupScore(const float* group, int64_t size) {
  F32x16 best = Set(kLowest), second = best;  // of each lane
  ForEachVector(size, [&](int64_t i, auto lanes) {
    const F32x16 x = Padded(LoadLanes(group + i, lanes), lanes);
    second = Max(second, Min(best, x));
    best = Max(best, x);
  });
  const float first = Largest(best);
  if (size == 1) return first;
  const uint32_t holders = ~MaskLess(best, Set(first)) & 0xffff;
  const bool tie = (holders & (holders - 1)) != 0;
  return first + (tie ? first : Largest(SelectLess(best, Set(first), best, second)));
}

// Moves the scores of the best groups to the front; kept: their groups, ascending.
void KeepBestGroups(const RouterArgs& args, int64_t size, float* selection, int32_t* kept) {
  alignas(64) float group_scores[kMaxChoice];
  for (int g = 0; g < args.num_groups; ++g) group_scores[g] = GroupScore(selection + g * size, size);
  ForEachVector(args.num_groups, [&](int64_t i, auto lanes) {
    Store(group_scores + i, Padded(LoadLanes(group_scores + i, lanes), lanes));
  });
  BestPlaces(group_scores, args.num_groups, args.groups_kept, kept);
  for (int g = 0; g < args.groups_kept; ++g) std::copy_n(selection + kept[g] * size, size, selection + g * size);
  const int64_t n = args.groups_kept * size;
  std::fill(selection + n, selection + PaddedSize(n), kLowest);
}

// selection: room for PaddedSize(E) scores.
void ChooseExperts(const RouterArgs& args, const float* scores, int64_t num_experts, float* selection,
                   int32_t* experts) {
  const float* const bias = args.bias.As<float>();
  ForEachVector(num_experts, [&](int64_t i, auto lanes) {
    const F32x16 score = LoadLanes(scores + i, lanes);
    Store(selection + i, Padded(bias ? score + LoadLanes(bias + i, lanes) : score, lanes));
  });
  if (args.groups_kept == args.num_groups) return BestPlaces(selection, num_experts, args.top_k, experts);
  const int32_t size = static_cast<int32_t>(num_experts / args.num_groups);
  int32_t kept[kMaxChoice];
  KeepBestGroups(args, size, selection, kept);
  BestPlaces(selection, args.groups_kept * size, args.top_k, experts);
  for (int j = 0; j < args.top_k; ++j) experts[j] = kept[experts[j] / size] * size + experts[j] % size;
}

// What weights are divided by: the chain over ascending experts.
float ChosenSum(const RouterArgs& args, const float* scores, const int32_t* experts) {
  float sum = 0;
  for (int j = 0; j < args.top_k; ++j) sum += scores[experts[j]];
  return args.scoring == RouterArgs::Scoring::kSigmoid ? sum + kTinySum : sum;
}

// Takes over the choice of an earlier call. Whether that of these scores is another, where somebody asks.
bool ReplayExperts(const RouterArgs& args, const float* scores, int64_t num_experts, float* selection,
                   const int32_t* replayed, int32_t* experts) {
  for (int j = 0; j < args.top_k; ++j) {
    CHECK(replayed[j] >= 0 && replayed[j] < num_experts);
    experts[j] = replayed[j];
  }
  if (!args.flips) return false;
  int32_t own[kMaxChoice];
  ChooseExperts(args, scores, num_experts, selection, own);
  return !std::equal(own, own + args.top_k, experts);
}

// Whether the replayed choice is another than that of the scores; false without one.
bool RouteToken(const RouterArgs& args, const float* logits, int64_t num_experts, const int32_t* replayed,
                float* selection, float* scores, int32_t* experts, float* weights) {
  if (args.scoring == RouterArgs::Scoring::kSigmoid) {
    SigmoidScores(logits, num_experts, scores);
  } else {
    SoftmaxScores(logits, num_experts, scores);
  }
  bool flips = false;
  if (replayed) {
    flips = ReplayExperts(args, scores, num_experts, selection, replayed, experts);
  } else {
    ChooseExperts(args, scores, num_experts, selection, experts);
  }
  const float sum = args.normalize ? ChosenSum(args, scores, experts) : 1;
  for (int j = 0; j < args.top_k; ++j) weights[j] = scores[experts[j]] / sum * args.scale;
  return flips;
}

// sums[i] += x[i] for the 16 lanes.
void AddToDoubles(double* sums, F32x16 x) {
#if defined(__AVX512F__)
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1));
  _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), _mm512_cvtps_pd(_mm512_castps512_ps256(x.v))));
  _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), _mm512_cvtps_pd(high)));
#elif defined(__AVX2__)
  const __m128 quarters[4] = {_mm256_castps256_ps128(x.lo), _mm256_extractf128_ps(x.lo, 1),
                              _mm256_castps256_ps128(x.hi), _mm256_extractf128_ps(x.hi, 1)};
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_pd(sums + 4 * i, _mm256_add_pd(_mm256_loadu_pd(sums + 4 * i), _mm256_cvtps_pd(quarters[i])));
  }
#else
  for (int i = 0; i < kLanes; ++i) sums[i] += static_cast<double>(x.v[i]);
#endif
}

// Of one row, in whole vectors.
struct BalanceScratch {
  explicit BalanceScratch(int64_t num_experts, Carver carver)
      : counts(carver.Take<int64_t>(PaddedSize(num_experts))),
        shares(carver.Take<double>(PaddedSize(num_experts))),
        selection(carver.Take<float>(PaddedSize(num_experts))),
        bytes(carver.used()) {}
  int64_t* counts;   // of choices
  double* shares;    // sums over tokens
  float* selection;  // of one token
  int64_t bytes;
};

// Fractions and loss of one row of S tokens.
double BalanceRow(const BalanceLossArgs& args, int64_t row, const BalanceScratch& scratch, float* fractions) {
  const int64_t length = args.scores.size(1), num_experts = args.scores.size(2);
  int64_t* const counts = scratch.counts;
  double* const shares = scratch.shares;
  std::fill_n(counts, num_experts, 0);
  std::fill_n(shares, PaddedSize(num_experts), 0.0);
  int64_t tokens = 0;
  for (int64_t s = 0; s < length; ++s) {
    if (args.positions.As<int32_t>()[row * length + s] < 0) continue;
    ++tokens;
    const float* const scores = args.scores.As<float>() + (row * length + s) * num_experts;
    F32x16 sums = Set(0);
    ForEachVector(num_experts, [&](int64_t i, auto lanes) {
      const F32x16 score = StreamLanes(scores + i, lanes);
      Store(scratch.selection + i, Padded(score, lanes));
      sums = sums + score;
    });
    int32_t best[kMaxChoice];
    BestPlaces(scratch.selection, num_experts, args.top_k, best);
    for (int j = 0; j < args.top_k; ++j) ++counts[best[j]];
    const F32x16 sum = Set(Sum(sums) + kTinySum);
    ForEachVector(num_experts,
                  [&](int64_t i, auto lanes) { AddToDoubles(shares + i, LoadLanes(scores + i, lanes) / sum); });
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

// d_logits of one token from d_scores, the gradient of the weights, to which that of weight * sum_i f_i p_i,
// p_i = s_i / sum_j s_j, is added first; fractions f_i may be null.
void ScoresBackward(RouterArgs::Scoring scoring, const float* fractions, float weight, const float* scores,
                    const float* d_scores, int64_t n, float* d_logits) {
  F32x16 mean = Set(0), factor = Set(0);
  if (fractions) {
    F32x16 sums = Set(0), products = Set(0);
    ForEachVector(n, [&](int64_t i, auto lanes) {
      const F32x16 s = StreamLanes(scores + i, lanes);
      sums = sums + s;
      products = Fma(LoadLanes(fractions + i, lanes), s, products);
    });
    const float sum = Sum(sums) + kTinySum;
    mean = Set(Sum(products) / sum);
    factor = Set(weight / sum);
  }
  const auto d_score = [&](int64_t i, auto lanes) {
    const F32x16 d = LoadLanes(d_scores + i, lanes);
    return fractions ? Fma(LoadLanes(fractions + i, lanes) - mean, factor, d) : d;
  };
  if (scoring == RouterArgs::Scoring::kSigmoid) {
    ForEachVector(n, [&](int64_t i, auto lanes) {
      const F32x16 s = LoadLanes(scores + i, lanes);
      StoreLanes(d_logits + i, d_score(i, lanes) * (s * (Set(1) - s)), lanes);
    });
    return;
  }
  F32x16 products = Set(0);
  ForEachVector(
      n, [&](int64_t i, auto lanes) { products = Fma(LoadLanes(scores + i, lanes), d_score(i, lanes), products); });
  const F32x16 projection = Set(Sum(products));
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(d_logits + i, LoadLanes(scores + i, lanes) * (d_score(i, lanes) - projection), lanes);
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
  const int32_t* const replayed = args.replayed.As<int32_t>();
  pool_.ParallelFor(args.logits.size(0), RowGrain(4 * num_experts), [&](int64_t begin, int64_t end, int thread) {
    float* const selection = static_cast<float*>(pool_.Scratch(thread, PaddedSize(num_experts) * SizeOf(DType::kF32)));
    int64_t flips = 0;
    for (int64_t t = begin; t < end; ++t) {
      float* const scores = all_scores[t];
      int32_t* const experts = args.experts.As<int32_t>() + t * k;
      float* const weights = args.weights.As<float>() + t * k;
      if (args.positions.As<int32_t>()[t] < 0) {
        std::fill_n(scores, num_experts, 0.0f);
        std::fill_n(experts, k, -1);
        std::fill_n(weights, k, 0.0f);
      } else {
        flips += RouteToken(args, logits[t], num_experts, replayed ? replayed + t * k : nullptr, selection, scores,
                            experts, weights);
      }
    }
    if (flips > 0) __atomic_fetch_add(args.flips.As<int64_t>(), flips, __ATOMIC_RELAXED);
  });
}

void CpuKernels::BalanceLoss(const BalanceLossArgs& args) {
  const int64_t num_experts = args.scores.size(2);
  CHECK_LE(args.top_k, kMaxChoice);
  CHECK_LE(args.top_k, num_experts);
  CHECK(args.scores.Contiguous());
  pool_.ParallelFor(args.scores.size(0), 1, [&](int64_t begin, int64_t end, int thread) {
    const int64_t bytes = BalanceScratch(num_experts, Carver(nullptr)).bytes;
    const BalanceScratch scratch(num_experts, Carver(pool_.Scratch(thread, bytes)));
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
  // Chunks are not small, because each counts the padding of its row.
  const int64_t grain = std::max(kLeastBackwardTokens, RowGrain(4 * num_experts));
  pool_.ParallelFor(num_tokens, grain, [&](int64_t begin, int64_t end, int thread) {
    float* const d_scores = static_cast<float*>(pool_.Scratch(thread, num_experts * SizeOf(DType::kF32)));
    std::fill_n(d_scores, num_experts, 0.0f);
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
      const int32_t* const experts = forward.experts.As<int32_t>() + t * k;
      AddWeightGradient(forward, all_scores[t], experts, args.d_weights.As<float>() + t * k, d_scores);
      ScoresBackward(forward.scoring, args.fractions ? args.fractions.As<float>() + row * num_experts : nullptr,
                     balance_weight, all_scores[t], d_scores, num_experts, all_d_logits[t]);
      for (int64_t j = 0; j < k; ++j) d_scores[experts[j]] = 0;
    }
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
