// SPDX-License-Identifier: Apache-2.0
// Draws the next token of each sequence. Log-probabilities are those of the loss (log_sum_exp.h), over the whole
// vocabulary. A filter sets weights exp(l - max) to zero: top-k, then top-p of what is left, then min-p, each in the
// total order (logit descending, id ascending). The draw inverts the cumulative sum of the weights in the order of ids,
// in f64.
#include <algorithm>
#include <bit>

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/lanes.h"
#include "core/device/cpu/log_sum_exp.h"
#include "core/device/cpu/sort_keys.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// One sequence: three arrays of [V] in the scratch of a thread.
struct Candidates {
  int64_t vocabulary;
  uint64_t* order;  // the front part: OrderKey of those with a weight
  float* logits;    // divided by the temperature
  float* weights;   // exp(logit - max); 0 = cannot be drawn

  static int64_t ScratchBytes(int64_t vocabulary) { return vocabulary * (sizeof(uint64_t) + 2 * sizeof(float)); }
  Candidates(void* scratch, int64_t size)
      : vocabulary(size),
        order(static_cast<uint64_t*>(scratch)),
        logits(reinterpret_cast<float*>(order + size)),
        weights(logits + size) {}
};

// Ascending keys = logit descending, then id ascending. Floats compare as their bits do, once negative ones are
// inverted.
uint64_t OrderKey(float logit, int32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);  // -0 ties with 0
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~ascending) << 32 | static_cast<uint32_t>(id);
}
float& WeightOf(uint64_t key, const Candidates& c) { return c.weights[static_cast<uint32_t>(key)]; }

LogSumExp ScaleAndReduce(const float* logits, float temperature, const Candidates& c) {
  const F32x16 t = Set(temperature);
  ForEachVector(c.vocabulary,
                [&](int64_t i, auto lanes) { StoreLanes(c.logits + i, LoadLanes(logits + i, lanes) / t, lanes); });
  LogSumExp lse;
  for (int64_t begin = 0; begin < c.vocabulary; begin += kVocabularyBlock) {
    lse.AddBlock(c.logits + begin, std::min(kVocabularyBlock, c.vocabulary - begin));
  }
  return lse;
}

// The largest logit, ties to the lower id; NaN never wins.
int32_t Greedy(const Candidates& c) {
  int32_t best = 0;
  for (int32_t i = 1; i < c.vocabulary; ++i) {
    const float x = c.logits[i], y = c.logits[best];
    if (x > y || (y != y && x == x)) best = i;
  }
  return best;
}

void FillWeights(float max, const Candidates& c) {
  const F32x16 shift = Set(max), lowest = Set(-__builtin_inff()), zero = Set(0.0f);
  ForEachVector(c.vocabulary, [&](int64_t i, auto lanes) {
    const F32x16 x = LoadLanes(c.logits + i, lanes);
    StoreLanes(c.weights + i, SelectLess(lowest, x, Exp(x - shift), zero), lanes);  // NaN becomes 0
  });
}

int64_t ListOrder(const Candidates& c) {
  int64_t count = 0;
  for (int32_t i = 0; i < c.vocabulary; ++i) {
    if (c.weights[i] > 0) c.order[count++] = OrderKey(c.logits[i], i);
  }
  return count;
}

double TotalWeight(const Candidates& c) {
  double total = 0;
  for (int64_t i = 0; i < c.vocabulary; ++i) total += static_cast<double>(c.weights[i]);
  return total;
}

void DropBeyond(int64_t kept, int64_t count, const Candidates& c) {
  for (int64_t place = kept; place < count; ++place) WeightOf(c.order[place], c) = 0;
}

void KeepTopK(int64_t k, const Candidates& c) {
  const int64_t count = ListOrder(c);
  if (k >= count) return;
  SelectKeys(c.order, c.order + k, c.order + count);
  DropBeyond(k, count, c);
}

// The shortest front of the order whose share of the weight reaches p; at least one. The nucleus is nearly always
// small, so the order is made only as far as it reaches.
void KeepTopP(double p, const Candidates& c) {
  const int64_t count = ListOrder(c);
  const double enough = p * TotalWeight(c);
  double sum = 0;
  int64_t kept = 0;
  for (int64_t sorted = 0, end = 512; sorted < count && (kept == 0 || sum < enough); sorted = end, end *= 4) {
    end = std::min(end, count);
    SelectKeys(c.order + sorted, c.order + end - 1, c.order + count);
    SortKeys(c.order + sorted, c.order + end);
    while (kept < end && (kept == 0 || sum < enough)) sum += static_cast<double>(WeightOf(c.order[kept++], c));
  }
  DropBeyond(kept, count, c);
}

void KeepMinP(float p, const Candidates& c) {  // the best candidate has weight 1
  for (int64_t i = 0; i < c.vocabulary; ++i) {
    if (c.weights[i] < p) c.weights[i] = 0;
  }
}

// The first candidate with which the sum of the weights exceeds the target.
int32_t Draw(double target, const Candidates& c) {
  double sum = 0;
  int32_t last = 0;
  for (int32_t i = 0; i < c.vocabulary; ++i) {
    if (c.weights[i] == 0) continue;
    sum += static_cast<double>(c.weights[i]);
    last = i;
    if (sum > target) break;
  }
  return last;  // the last one, too, when the target was rounded up to the total
}

double UniformDouble(uint64_t key, int64_t draw_id) {
  const auto words = Philox(key, static_cast<uint64_t>(draw_id), 0);
  return static_cast<double>((static_cast<uint64_t>(words[1]) << 32 | words[0]) >> 11) * 0x1p-53;
}

// W = sum w, as TotalWeight, and ln W - sum w (l - max) / W: the entropy of the whole vocabulary, while weights are
// those of it.
struct Mass {
  double weight = 0, entropy = 0;
};
Mass MassOf(float max, const Candidates& c) {
  double total = 0, mean = 0;
  for (int64_t i = 0; i < c.vocabulary; ++i) {
    if (c.weights[i] == 0) continue;
    const double weight = c.weights[i];
    total += weight;
    mean += weight * (static_cast<double>(c.logits[i]) - static_cast<double>(max));
  }
  return {total, ExactLog(total) - mean / total};
}

bool HasFilters(const SampleArgs& args) { return args.top_k > 0 || args.top_p < 1 || args.min_p > 0; }

struct Drawing {
  int32_t token = 0;
  float log_prob = 0, filtered_log_prob = 0, entropy = 0;
};

Drawing DrawOne(const SampleArgs& args, const LogSumExp& lse, int64_t draw_id, const Candidates& c) {
  Drawing drawing;
  FillWeights(lse.max, c);
  const Mass mass = args.entropy ? MassOf(lse.max, c) : Mass{.weight = TotalWeight(c)};
  drawing.entropy = static_cast<float>(mass.entropy);
  const double uniform = UniformDouble(args.key, draw_id);
  if (!HasFilters(args)) {
    drawing.token = Draw(uniform * mass.weight, c);
    return drawing;
  }
  if (args.top_k > 0) KeepTopK(args.top_k, c);
  if (args.top_p < 1) KeepTopP(static_cast<double>(args.top_p), c);
  if (args.min_p > 0) KeepMinP(args.min_p, c);
  const double total = TotalWeight(c);
  drawing.token = Draw(uniform * total, c);
  const double logit = c.logits[drawing.token];
  drawing.filtered_log_prob = static_cast<float>(logit - static_cast<double>(lse.max) - ExactLog(total));
  return drawing;
}

}  // namespace

void CpuKernels::Sample(const SampleArgs& args) {
  const int64_t vocabulary = args.logits.size(1);
  CHECK(args.logits.dtype == DType::kF32 && args.draw_ids.dtype == DType::kI64 && args.tokens.dtype == DType::kI32);
  CHECK_GE(vocabulary, 1);
  CHECK(args.temperature >= 0 && args.top_p >= 0 && args.min_p <= 1);
  const bool greedy = args.temperature == 0;
  pool_.ParallelFor(args.logits.size(0), 1, [&](int64_t begin, int64_t end, int thread) {
    const Candidates c(pool_.Scratch(thread, Candidates::ScratchBytes(vocabulary)), vocabulary);
    for (int64_t b = begin; b < end; ++b) {
      const float* logits = args.logits.As<float>() + b * args.logits.stride(0);
      const LogSumExp lse = ScaleAndReduce(logits, greedy ? 1.0f : args.temperature, c);
      const bool usable = lse.max - lse.max == 0;  // finite: else nothing to draw from
      Drawing drawing;
      if (greedy || !usable) {
        drawing.token = Greedy(c);
      } else {
        drawing = DrawOne(args, lse, args.draw_ids.As<int64_t>()[b], c);
      }
      drawing.log_prob = c.logits[drawing.token] - lse.Value();
      if (greedy || !usable || !HasFilters(args)) drawing.filtered_log_prob = drawing.log_prob;
      args.tokens.As<int32_t>()[b] = drawing.token;
      args.log_probs.As<float>()[b] = drawing.log_prob;
      if (args.filtered_log_probs) args.filtered_log_probs.As<float>()[b] = drawing.filtered_log_prob;
      if (args.entropy) args.entropy.As<float>()[b] = drawing.entropy;
    }
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
