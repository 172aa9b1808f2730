// SPDX-License-Identifier: Apache-2.0
// Sampling against a plain double version of the same law, its log-probabilities against log-softmax, and odd logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/core/device/every_device.h"

namespace conclave::core::test {
namespace {

constexpr float kMinusInfinity = -HUGE_VALF;

struct Settings {
  float temperature = 1, top_p = 1, min_p = 0;
  int top_k = 0;
  uint64_t key = 0;
};

struct Drawn {
  int32_t token;
  float log_prob;
  bool operator==(const Drawn&) const = default;
};

std::vector<Drawn> Sampled(Kernels& kernels, std::vector<float> logits, int64_t sequences, const Settings& settings,
                           int64_t first_draw = 0) {
  const int64_t vocabulary = sequences == 0 ? 10 : static_cast<int64_t>(logits.size()) / sequences;
  std::vector<int64_t> draw_ids(sequences);
  std::iota(draw_ids.begin(), draw_ids.end(), first_draw);
  std::vector<int32_t> tokens(sequences);
  std::vector<float> log_probs(sequences);
  SampleArgs args;
  args.temperature = settings.temperature;
  args.top_p = settings.top_p;
  args.min_p = settings.min_p;
  args.top_k = settings.top_k;
  args.key = settings.key;
  args.logits = View(logits, {sequences, vocabulary});
  args.draw_ids = View(draw_ids);
  args.tokens = View(tokens);
  args.log_probs = View(log_probs);
  kernels.Sample(args);
  std::vector<Drawn> drawn;
  for (int64_t b = 0; b < sequences; ++b) drawn.push_back({tokens[b], log_probs[b]});
  return drawn;
}

std::vector<double> Softmax(const float* logits, int64_t vocabulary, double temperature) {
  const double max = *std::max_element(logits, logits + vocabulary) / temperature;
  std::vector<double> p(vocabulary);
  double sum = 0;
  for (int64_t i = 0; i < vocabulary; ++i) sum += p[i] = std::exp(logits[i] / temperature - max);
  for (double& x : p) x /= sum;
  return p;
}

// The law of sample.cc on probabilities: top-k, top-p, min-p in the order (probability descending, id ascending).
std::vector<double> Filtered(std::vector<double> p, const Settings& args) {
  std::vector<int> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
  const double best = p[order[0]];
  if (args.top_k > 0 && args.top_k < static_cast<int>(order.size())) {
    for (size_t i = args.top_k; i < order.size(); ++i) p[order[i]] = 0;
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const bool full = i > 0 && args.top_p < 1 && sum >= args.top_p * total;
    sum += p[order[i]];
    if (full) p[order[i]] = 0;
  }
  for (double& x : p) {
    if (x < args.min_p * best) x = 0;
  }
  const double kept = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= kept;
  return p;
}

int32_t Inverse(const std::vector<double>& p, double uniform) {
  double sum = 0;
  int32_t last = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) continue;
    sum += p[i];
    last = static_cast<int32_t>(i);
    if (sum > uniform) break;
  }
  return last;
}

double Uniform(uint64_t key, int64_t draw_id) {
  const auto words = Philox(key, draw_id, 0);
  return std::ldexp(static_cast<double>((static_cast<uint64_t>(words[1]) << 32 | words[0]) >> 11), -53);
}

TEST(Sample, InvertsTheCumulativeSumUnderEveryFilter) {
  const std::vector<Settings> all_settings = {
      {},
      {.temperature = 0.6f},
      {.temperature = 1.7f, .top_k = 5},
      {.top_p = 0.9f},
      {.temperature = 2.0f, .top_p = 0.5f},
      {.min_p = 0.2f},
      {.temperature = 0.8f, .top_p = 0.95f, .min_p = 0.02f, .top_k = 40},
      {.top_p = 0, .top_k = 100000},
  };
  for (int64_t vocabulary : {1, 5, 265, 768, 2000}) {
    for (Settings args : all_settings) {
      args.key = 77;
      const std::vector<float> logits = Normals(vocabulary, 60 * vocabulary, 2);
      const auto drawn = SameOnEveryDevice([&](Kernels& kernels) { return Sampled(kernels, logits, 60, args); });
      for (int64_t b = 0; b < 60; ++b) {
        const auto p = Softmax(&logits[b * vocabulary], vocabulary, args.temperature);
        ASSERT_EQ(drawn[b].token, Inverse(Filtered(p, args), Uniform(77, b))) << vocabulary << " " << b;
        ASSERT_NEAR(drawn[b].log_prob, std::log(p[drawn[b].token]), 2e-6);  // before the filters
      }
    }
  }
}

TEST(Sample, FlatDistributionsNeedALongNucleus) {  // beyond the first parts that top-p puts in order
  std::vector<float> logits = Normals(8, 20000, 0.01f);
  const Settings args = {.top_p = 0.9f, .key = 5};
  const std::vector<double> p = Filtered(Softmax(logits.data(), 20000, 1), args);
  for (int64_t draw = 0; draw < 50; ++draw) {
    const Drawn drawn = Sampled(*BestKernels(), logits, 1, args, draw)[0];
    ASSERT_EQ(drawn.token, Inverse(p, Uniform(5, draw)));
  }
}

TEST(Sample, FrequenciesAreProbabilities) {
  constexpr int kDraws = 20000;
  const std::vector<float> one = {0.3f, -1, 2, 0, 0, 1.5f, -3};
  std::vector<float> logits;
  for (int i = 0; i < kDraws; ++i) logits.insert(logits.end(), one.begin(), one.end());
  const Settings args = {.temperature = 1.3f, .key = 123};
  std::vector<int> counts(one.size(), 0);
  for (const Drawn& drawn : Sampled(*BestKernels(), logits, kDraws, args)) ++counts[drawn.token];
  const std::vector<double> p = Softmax(one.data(), 7, 1.3f);
  double chi_square = 0;
  for (size_t i = 0; i < p.size(); ++i) chi_square += std::pow(counts[i] - kDraws * p[i], 2) / (kDraws * p[i]);
  EXPECT_LT(chi_square, 22.5);  // 6 degrees of freedom, 0.1 %
}

TEST(Sample, GreedyTakesTheBestAndTheLowerIdOfTies) {
  std::vector<float> logits = Normals(4, 10 * 1000);
  for (int b = 0; b < 10; ++b) logits[b * 1000 + 17 + b] = logits[b * 1000 + 800] = 9;
  const auto drawn =
      SameOnEveryDevice([&](Kernels& kernels) { return Sampled(kernels, logits, 10, {.temperature = 0}); });
  for (int b = 0; b < 10; ++b) {
    EXPECT_EQ(drawn[b].token, 17 + b);
    EXPECT_NEAR(drawn[b].log_prob, std::log(Softmax(&logits[b * 1000], 1000, 1)[800]), 2e-6);
  }
  EXPECT_EQ(drawn,
            SameOnEveryDevice([&](Kernels& k) { return Sampled(k, logits, 10, {.temperature = 1, .top_k = 1}); }));
}

TEST(Sample, TopKOrdersSignsAndZerosAsNumbers) {
  const std::vector<float> one = {-1, -0.0f, -2, 0.0f, -0.5f, 0.0f};  // the best three are 1, 3, 5
  std::vector<float> logits;
  for (int b = 0; b < 200; ++b) logits.insert(logits.end(), one.begin(), one.end());
  std::vector<int> counts(6, 0);
  for (const Drawn& drawn : Sampled(*BestKernels(), logits, 200, {.top_k = 2, .key = 4})) ++counts[drawn.token];
  EXPECT_GT(counts[1], 60);
  EXPECT_GT(counts[3], 60);
  EXPECT_EQ(counts[1] + counts[3], 200);
}

TEST(Sample, DoesNotDependOnWhatElseIsInTheBatch) {
  const std::vector<float> logits = Normals(6, 30 * 900, 2);
  const Settings args = {.temperature = 0.9f, .top_p = 0.97f, .key = 1};
  const auto together = SameOnEveryDevice([&](Kernels& kernels) { return Sampled(kernels, logits, 30, args, 1000); });
  BestKernels kernels;
  for (int b = 0; b < 30; ++b) {
    const std::vector<float> own(logits.begin() + b * 900, logits.begin() + (b + 1) * 900);
    EXPECT_EQ(Sampled(*kernels, own, 1, args, 1000 + b)[0], together[b]);
  }
  EXPECT_TRUE(SameOnEveryDevice([&](Kernels& k) { return Sampled(k, {}, 0, args); }).empty());
}

TEST(Sample, NeverDrawsImpossibleTokens) {
  std::vector<float> logits(1600, kMinusInfinity);
  for (int id : {3, 900, 1599}) logits[id] = 0;  // a whole block of the reduction has none
  std::vector<float> all;
  for (int b = 0; b < 100; ++b) all.insert(all.end(), logits.begin(), logits.end());
  for (float top_p : {1.0f, 0.99f}) {
    for (const Drawn& drawn :
         SameOnEveryDevice([&](Kernels& k) { return Sampled(k, all, 100, {.top_p = top_p, .key = 2}); })) {
      EXPECT_EQ(logits[drawn.token], 0);
      EXPECT_NEAR(drawn.log_prob, -std::log(3.0), 1e-6);
    }
  }
}

TEST(Sample, LogProbabilitiesSurviveLargeLogits) {
  for (float offset : {-1e4f, 1e4f, -3e38f}) {
    std::vector<float> logits(2000, offset);
    const Drawn drawn = SameOnEveryDevice([&](Kernels& kernels) { return Sampled(kernels, logits, 1, {.key = 3}); })[0];
    EXPECT_NEAR(drawn.log_prob, -std::log(2000.0), std::fabs(offset) * 0x1p-23);
  }
}

TEST(Sample, BrokenLogitsGiveAValidTokenAndNoProbability) {
  for (float broken : {static_cast<float>(NAN), HUGE_VALF}) {
    for (float temperature : {0.0f, 1.0f}) {
      for (int where : {0, 5, 799}) {
        std::vector<float> logits = Normals(1, 800);
        logits[where] = broken;
        for (const std::string& target : AllDevices().targets()) {
          Device& device = AllDevices().Get(target, 1);
          const auto stream = device.CreateStream();
          const Settings args = {.temperature = temperature, .top_p = 0.9f, .min_p = 0.01f, .top_k = 50};
          const Drawn drawn = Sampled(*device.CreateKernels(*stream), logits, 1, args)[0];
          EXPECT_TRUE(std::isnan(drawn.log_prob));
          EXPECT_TRUE(drawn.token >= 0 && drawn.token < 800);
          EXPECT_FALSE(std::isnan(logits[drawn.token]));
        }
      }
    }
  }
  for (float value : {static_cast<float>(NAN), kMinusInfinity}) {
    const Drawn drawn = Sampled(*BestKernels(), std::vector<float>(50, value), 1, {})[0];
    EXPECT_EQ(drawn.token, 0);
    EXPECT_TRUE(std::isnan(drawn.log_prob));
  }
}

TEST(Sample, RefusesSettingsThatKeepNothing) {
  BestKernels kernels;
  EXPECT_DEATH(Sampled(*kernels, {1, 2}, 1, {.temperature = -1}), "CHECK failed");
  EXPECT_DEATH(Sampled(*kernels, {1, 2}, 1, {.min_p = 1.5f}), "CHECK failed");
}

}  // namespace
}  // namespace conclave::core::test
