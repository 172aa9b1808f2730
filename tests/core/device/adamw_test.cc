// SPDX-License-Identifier: Apache-2.0
// AdamW, Ema and UpdateRouterBias: the stated order of operations bit by bit, and the mathematics in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/fixed_sum.h"
#include "tests/core/device/every_device.h"

namespace conclave::core::test {
namespace {

struct Settings {
  float clip = 1, lr = 0, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0;
  float correction1 = 1, correction2 = 1;
};

template <class Sum, class Moment>
struct StateOf {
  std::vector<Sum> gradient;
  std::vector<float> master;
  std::vector<Moment> m, v;

  AdamWArgs Args(const Settings& settings) {
    AdamWArgs args;
    args.clip = settings.clip;
    args.lr = settings.lr;
    args.beta1 = settings.beta1;
    args.beta2 = settings.beta2;
    args.eps = settings.eps;
    args.weight_decay = settings.weight_decay;
    args.correction1 = settings.correction1;
    args.correction2 = settings.correction2;
    args.gradient = View(gradient);
    args.master = View(master);
    args.m = View(m);
    args.v = View(v);
    return args;
  }
};

using State = StateOf<int64_t, float>;

State Start(int64_t n) {
  State state{std::vector<int64_t>(n), Normals(1, n), Normals(2, n, 0.1f), Normals(3, n, 0.1f)};
  const std::vector<float> gradient = Normals(4, n, 0.3f);
  for (int64_t i = 0; i < n; ++i) {
    state.gradient[i] = static_cast<int64_t>(static_cast<double>(gradient[i]) / kGradientUnit) + i % 3;
    state.v[i] = state.v[i] * state.v[i];
  }
  return state;
}

const Settings kHyper = {.clip = 0.7f,
                         .lr = 3e-3f,
                         .beta1 = 0.9f,
                         .beta2 = 0.95f,
                         .eps = 1e-8f,
                         .weight_decay = 0.1f,
                         .correction1 = 0.271f,
                         .correction2 = 0.142625f};

// master, m, v, gradient one after the other; the gradient must be 0.
std::vector<float> Updated(Kernels& kernels, State state, const Settings& settings) {
  kernels.AdamW(state.Args(settings));
  std::vector<float> all = state.master;
  all.insert(all.end(), state.m.begin(), state.m.end());
  all.insert(all.end(), state.v.begin(), state.v.end());
  for (int64_t g : state.gradient) EXPECT_EQ(g, 0);
  return all;
}

TEST(AdamW, FollowsTheStatedOrderOfOperations) {
  for (int64_t n : {0, 1, 15, 16, 40, 16384, 40001}) {
    const State start = Start(n);
    const auto got = SameOnEveryDevice([&](Kernels& kernels) { return Updated(kernels, start, kHyper); });
    for (int64_t i = 0; i < n; ++i) {
      const float g = kHyper.clip * GradientToFloat(start.gradient[i]);
      const float m = std::fma(1.0f - kHyper.beta1, g - start.m[i], start.m[i]);
      const float v = std::fma((1.0f - kHyper.beta2) * g, g, kHyper.beta2 * start.v[i]);
      const float decayed = (1.0f - kHyper.lr * kHyper.weight_decay) * start.master[i];
      const float root = std::sqrt(v) / std::sqrt(kHyper.correction2) + kHyper.eps;
      ASSERT_EQ(got[n + i], m);
      ASSERT_EQ(got[2 * n + i], v);
      ASSERT_EQ(got[i], decayed - kHyper.lr / kHyper.correction1 * m / root);
    }
  }
}

float AsFloat(float x) { return x; }
float AsFloat(Bf16 x) { return ToFloat(x); }

// The same step from gradients in other sums and moments of another type. A number without rounding in the smaller type
// stands for the same one in the larger.
template <class Sum, class Moment>
void ExpectTheStateOfFloatMoments(const State& start, const std::vector<Sum>& gradient) {
  StateOf<Sum, Moment> other{gradient, start.master, {}, {}};
  for (size_t i = 0; i < start.m.size(); ++i) {
    if constexpr (std::is_same_v<Moment, Bf16>) {
      other.m.push_back(ToBf16(start.m[i]));
      other.v.push_back(ToBf16(start.v[i]));
    } else {
      other.m.push_back(start.m[i]);
      other.v.push_back(start.v[i]);
    }
    ASSERT_EQ(AsFloat(other.m.back()), start.m[i]);
    ASSERT_EQ(AsFloat(other.v.back()), start.v[i]);
  }
  const auto want = SameOnEveryDevice([&](Kernels& kernels) { return Updated(kernels, start, kHyper); });
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    StateOf<Sum, Moment> state = other;
    kernels.AdamW(state.Args(kHyper));
    std::vector<float> all = state.master;
    for (const std::vector<Moment>* moments : {&state.m, &state.v}) {
      for (Moment x : *moments) all.push_back(AsFloat(x));
    }
    for (Sum g : state.gradient) EXPECT_EQ(g, Sum{0});
    return all;
  });
  const size_t n = start.m.size();
  for (size_t i = 0; i < 3 * n; ++i) {
    const bool rounded = std::is_same_v<Moment, Bf16> && i >= n;
    ASSERT_EQ(got[i], rounded ? ToFloat(ToBf16(want[i])) : want[i]) << i;
  }
}

TEST(AdamW, StoresMomentsInBf16RoundedOnceAfterUse) {
  for (int64_t n : {0, 1, 15, 40, 16384, 40001}) {
    State start = Start(n);
    for (std::vector<float>* moments : {&start.m, &start.v}) {
      for (float& x : *moments) x = ToFloat(ToBf16(x));
    }
    ExpectTheStateOfFloatMoments<int64_t, Bf16>(start, start.gradient);
  }
}

TEST(AdamW, ReadsGradientsInFloatsAsTheyAre) {
  for (int64_t n : {0, 1, 15, 40, 16384, 40001}) {
    const State start = Start(n);
    std::vector<float> gradient;
    for (int64_t sum : start.gradient) gradient.push_back(GradientToFloat(sum));
    ExpectTheStateOfFloatMoments<float, float>(start, gradient);
  }
}

TEST(AdamW, IsNearTheFormulaInDouble) {
  const State start = Start(1000);
  const auto got = SameOnEveryDevice([&](Kernels& kernels) { return Updated(kernels, start, kHyper); });
  const double beta1 = kHyper.beta1, beta2 = kHyper.beta2, lr = kHyper.lr;
  for (size_t i = 0; i < 1000; ++i) {
    const double g = static_cast<double>(kHyper.clip) * static_cast<double>(start.gradient[i]) * kGradientUnit;
    const double m = beta1 * start.m[i] + (1 - beta1) * g, v = beta2 * start.v[i] + (1 - beta2) * g * g;
    const double update = m / kHyper.correction1 / (std::sqrt(v / kHyper.correction2) + kHyper.eps);
    const double want = start.master[i] - lr * kHyper.weight_decay * start.master[i] - lr * update;
    EXPECT_NEAR(got[i], want, 1e-6 * std::fabs(start.master[i]) + 1e-6 * lr * std::fabs(update) + 1e-9);
  }
}

TEST(AdamW, ReadsEveryGradientWithTwoRoundings) {
  // With beta1 = 0 and m = 0 the first moment is the gradient itself.
  State start;
  start.gradient = {0, 1, -1, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  for (int bit = 1; bit < 63; ++bit) {
    for (int64_t low : {-1, 0, 1}) {
      start.gradient.push_back((int64_t{1} << bit) + low);
      start.gradient.push_back(-(int64_t{1} << bit) + low);
      if (bit > 25)
        start.gradient.push_back((int64_t{1} << bit) + (int64_t{1} << (bit - 24)) + low);  // ties of the float
      if (bit > 54) start.gradient.push_back((int64_t{1} << bit) + (int64_t{1} << (bit - 53)) + low);  // of the double
    }
  }
  for (uint64_t i = 0; i < 2000; ++i) {
    start.gradient.push_back(static_cast<int64_t>(RandomKey(1, RandomPurpose::kTest, i)) >> (i % 60));
  }
  const size_t n = start.gradient.size();
  start.master.assign(n, 0);
  start.m.assign(n, 0);
  start.v.assign(n, 0);
  const auto got =
      SameOnEveryDevice([&](Kernels& kernels) { return Updated(kernels, start, {.lr = 1, .beta1 = 0, .beta2 = 0}); });
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(got[n + i], GradientToFloat(start.gradient[i])) << start.gradient[i];
}

TEST(AdamW, StaysFiniteWithoutAnyGradient) {
  State start{std::vector<int64_t>(40, 0), std::vector<float>(40, 2.0f), std::vector<float>(40, 0),
              std::vector<float>(40, 0)};
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    return Updated(kernels, start, {.lr = 0.5f, .weight_decay = 0.5f, .correction1 = 0.1f, .correction2 = 0.05f});
  });
  for (int i = 0; i < 40; ++i) EXPECT_EQ(got[i], 1.5f);  // decay alone
}

TEST(AdamW, RefusesOtherSizes) {
  BestKernels kernels;
  State state = Start(16);
  AdamWArgs args = state.Args(kHyper);
  args.m = args.m.Slice(0, 0, 15);
  EXPECT_DEATH(kernels->AdamW(args), "CHECK failed");
}

TEST(Ema, MovesAShareOfTheWay) {
  for (int64_t n : {0, 1, 33, 20000}) {
    std::vector<float> master = Normals(1, n);
    const std::vector<float> start = Normals(2, n);
    const auto got = SameOnEveryDevice([&](Kernels& kernels) {
      std::vector<float> ema = start;
      kernels.Ema(View(master), 0.99f, View(ema));
      return ema;
    });
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(got[i], std::fma(1.0f - 0.99f, master[i] - start[i], start[i]));
  }
}

TEST(UpdateRouterBias, FollowsTheSignOfTheLack) {
  std::vector<int64_t> load = {10, 11, 9, 10, 0, 20};  // mean 10
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> bias = {1, 1, 1, 1, 1, 1};
    kernels.UpdateRouterBias(View(load), 0.25f, View(bias));
    return bias;
  });
  EXPECT_EQ(got, (std::vector<float>{1, 0.75f, 1.25f, 1, 1.25f, 0.75f}));
}

TEST(UpdateRouterBias, ComparesIntegersThatFloatsCannotTellApart) {
  const int64_t large = int64_t{1} << 54;
  std::vector<int64_t> load = {large, large + 1, large - 1};
  std::vector<float> bias(3, 0);
  BestKernels()->UpdateRouterBias(View(load), 1, View(bias));
  EXPECT_EQ(bias, (std::vector<float>{0, -1, 1}));
}

}  // namespace
}  // namespace conclave::core::test
