// SPDX-License-Identifier: Apache-2.0
// Choices of the router that can be written down by hand: ties, groups, padding, logits that are no numbers; choices
// that are replayed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/rng.h"
#include "tests/support/devices.h"
#include "tests/support/host_array.h"

namespace conclave::core::test {
namespace {

using Ids = std::vector<int32_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Routed {
  Ids experts;
  std::vector<float> weights, scores;
};

struct RouterOptions {
  std::vector<float> bias = {};
  RouterArgs::Scoring scoring = RouterArgs::Scoring::kSigmoid;
  int num_groups = 1, groups_kept = 1, top_k = 2;
  int32_t position = 0;
};

// Routes one token.
Routed Route(const std::string& target, const std::vector<float>& logits, const RouterOptions& options) {
  const int64_t num_experts = static_cast<int64_t>(logits.size()), k = options.top_k;
  HostArray<float> in({1, num_experts}, logits), bias({num_experts}, options.bias);
  HostArray<float> scores({1, num_experts}), weights({1, k});
  HostArray<int32_t> positions({1}, {options.position}), experts({1, k});
  const auto device = CreateCpuDevice(target, 1);
  const auto stream = device->CreateStream();
  device->CreateKernels(*stream)->Router({.logits = in.tensor,
                                          .bias = options.bias.empty() ? Tensor{} : bias.tensor,
                                          .positions = positions.tensor,
                                          .scoring = options.scoring,
                                          .num_groups = options.num_groups,
                                          .groups_kept = options.groups_kept,
                                          .top_k = options.top_k,
                                          .scores = scores.tensor,
                                          .experts = experts.tensor,
                                          .weights = weights.tensor});
  return {experts.values, weights.values, scores.values};
}

// The places of the `count` greatest values, ascending: by stable sort, NaN as -inf.
Ids Greatest(std::vector<float> values, int count) {
  for (float& value : values) value = value > -kInfinity ? value : -kInfinity;
  Ids places(values.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  places.resize(static_cast<size_t>(count));
  std::sort(places.begin(), places.end());
  return places;
}

// What the router must choose by these scores.
Ids Choose(const std::vector<float>& scores, const RouterOptions& options) {
  const size_t size = scores.size() / static_cast<size_t>(options.num_groups);
  std::vector<float> selection = scores, groups, kept_scores;
  for (size_t i = 0; i < options.bias.size(); ++i) selection[i] += options.bias[i];
  for (auto group = selection.begin(); group != selection.end(); group += static_cast<ptrdiff_t>(size)) {
    const Ids best =
        Greatest({group, group + static_cast<ptrdiff_t>(size)}, static_cast<int>(std::min<size_t>(size, 2)));
    float sum = 0;
    for (int32_t place : best) sum += group[place] > -kInfinity ? group[place] : -kInfinity;
    groups.push_back(sum);
  }
  Ids ids;  // of the kept experts
  for (int32_t group : Greatest(groups, options.groups_kept)) {
    for (size_t i = static_cast<size_t>(group) * size; i < (static_cast<size_t>(group) + 1) * size; ++i) {
      ids.push_back(static_cast<int32_t>(i));
      kept_scores.push_back(selection[i]);
    }
  }
  Ids chosen = Greatest(kept_scores, options.top_k);
  for (int32_t& id : chosen) id = ids[static_cast<size_t>(id)];
  return chosen;
}

class RouterChoice : public testing::TestWithParam<std::string> {};

TEST_P(RouterChoice, GivesTiesToTheLowerIdAndSortsByIt) {
  EXPECT_EQ(Route(GetParam(), {1, 1, 1, 1, 1}, {}).experts, (Ids{0, 1}));
  EXPECT_EQ(Route(GetParam(), {0, 2, 1, 2, 1}, {.top_k = 3}).experts, (Ids{1, 2, 3}));
  std::vector<float> many(40, 0.0f);
  many[39] = 3;
  EXPECT_EQ(Route(GetParam(), many, {.top_k = 4}).experts, (Ids{0, 1, 2, 39}));
}

TEST_P(RouterChoice, UsesTheBiasForTheChoiceOnly) {
  const Routed routed = Route(GetParam(), {0, 0, 0, 0}, {.bias = {0, 0.5f, 0, 0.5f}});
  EXPECT_EQ(routed.experts, (Ids{1, 3}));
  EXPECT_EQ(routed.weights, (std::vector<float>{0.5f, 0.5f}));
  EXPECT_EQ(routed.scores, (std::vector<float>(4, 0.5f)));
}

TEST_P(RouterChoice, RanksGroupsByTheirTwoBest) {
  // The best expert stands in group 0, but group 1 has the best pair.
  EXPECT_EQ(Route(GetParam(), {3, -9, -9, 2, 1.5f, -9}, {.num_groups = 2}).experts, (Ids{3, 4}));
  // Equal groups: the lower one.
  EXPECT_EQ(Route(GetParam(), {1, 2, 2, 1, 2, 1}, {.num_groups = 3, .groups_kept = 2}).experts, (Ids{1, 2}));
  // Groups of one expert.
  EXPECT_EQ(Route(GetParam(), {1, 4, 2, 3}, {.num_groups = 4, .groups_kept = 2}).experts, (Ids{1, 3}));
}

TEST_P(RouterChoice, DoesNotRoutePadding) {
  const Routed routed = Route(GetParam(), {1, 2, 3}, {.position = -1});
  EXPECT_EQ(routed.experts, (Ids{-1, -1}));
  EXPECT_EQ(routed.weights, (std::vector<float>{0, 0}));
  EXPECT_EQ(routed.scores, (std::vector<float>{0, 0, 0}));
}

TEST_P(RouterChoice, GivesDifferentValidExpertsForLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  std::vector<float> mixed(48, nan);
  mixed[17] = 1;
  mixed[33] = -infinity;
  for (const std::vector<float>& logits : {std::vector<float>(48, nan), std::vector<float>(48, -infinity), mixed}) {
    for (const auto scoring : {RouterArgs::Scoring::kSigmoid, RouterArgs::Scoring::kSoftmax}) {
      const RouterOptions options{.scoring = scoring, .num_groups = 4, .groups_kept = 2, .top_k = 6};
      const Ids experts = Route(GetParam(), logits, options).experts;
      EXPECT_EQ(std::set<int32_t>(experts.begin(), experts.end()).size(), 6u);
      for (int32_t id : experts) EXPECT_TRUE(id >= 0 && id < 48) << id;
    }
  }
}

// Few different values, so that ties stand everywhere; NaN and infinities among them; from one expert to all.
TEST_P(RouterChoice, IsThatOfAStableSortForEqualInfiniteAndRandomScores) {
  struct Size {
    int experts, groups, kept;
  };
  const float odd[] = {0, 0, 1, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 2, kInfinity, 1};
  uint64_t draw = 0;
  for (const Size& size : {Size{1, 1, 1},
                           {5, 1, 1},
                           {16, 1, 1},
                           {17, 1, 1},
                           {64, 1, 1},
                           {24, 4, 2},
                           {8, 8, 3},
                           {40, 4, 3},
                           {64, 2, 1},
                           {256, 8, 4},
                           {160, 32, 32},
                           {51, 17, 5}}) {
    for (int levels : {1, 2, 8, 1000}) {  // 1000: random scores without bias
      for (int k : {1, 2, 6, 31, 32}) {
        const int most = size.experts / size.groups * size.kept;
        RouterOptions options{.num_groups = size.groups, .groups_kept = size.kept, .top_k = std::min(k, most)};
        std::vector<float> logits;
        for (int e = 0; e < size.experts; ++e) {
          const float normal = StandardNormal(7, draw++);
          const size_t level = static_cast<size_t>(1000 * std::abs(normal)) % static_cast<size_t>(levels);
          logits.push_back(levels == 1000 ? normal : odd[level]);
          if (levels == 8) options.bias.push_back(odd[static_cast<size_t>(e) % 4]);
        }
        const Routed routed = Route(GetParam(), logits, options);
        EXPECT_EQ(routed.experts, Choose(routed.scores, options))
            << size.experts << " experts, " << size.groups << " groups, " << levels << " levels, top " << k;
      }
    }
  }
}

// ---- Replay --------------------------------------------------------------------------------------------------------

struct Replay {
  Ids experts;
  std::vector<float> weights;
  int64_t flips = 0;
};

// Routes 300 tokens, every seventh of which is padding, on some threads; with `replayed` as these say.
Replay RouteMany(const std::string& target, int threads, uint64_t key, const Ids& replayed, int64_t flips_before) {
  constexpr int64_t kTokens = 300, kExperts = 24, kTopK = 4;
  HostArray<float> logits({kTokens, kExperts}), scores({kTokens, kExperts}), weights({kTokens, kTopK});
  HostArray<int32_t> positions({kTokens}), experts({kTokens, kTopK}), chosen({kTokens, kTopK}, replayed);
  HostArray<int64_t> flips({1}, {flips_before});
  for (size_t i = 0; i < logits.values.size(); ++i) logits.values[i] = StandardNormal(key, i);
  for (int32_t t = 0; t < kTokens; ++t) positions.values[static_cast<size_t>(t)] = t % 7 == 3 ? -1 : t;
  const auto device = CreateCpuDevice(target, threads);
  const auto stream = device->CreateStream();
  device->CreateKernels(*stream)->Router({.logits = logits.tensor,
                                          .bias = {},
                                          .positions = positions.tensor,
                                          .num_groups = 4,
                                          .groups_kept = 2,
                                          .top_k = kTopK,
                                          .replayed = replayed.empty() ? Tensor() : chosen.tensor,
                                          .scores = scores.tensor,
                                          .experts = experts.tensor,
                                          .weights = weights.tensor,
                                          .flips = replayed.empty() ? Tensor() : flips.tensor});
  return {experts.values, weights.values, flips.values[0]};
}

TEST_P(RouterChoice, OfItsOwnReplayedGivesTheSameBitsAndNoFlips) {
  const Replay own = RouteMany(GetParam(), 1, 5, {}, 0);
  const Replay again = RouteMany(GetParam(), 3, 5, own.experts, 17);
  EXPECT_EQ(again.experts, own.experts);
  EXPECT_EQ(again.weights, own.weights);
  EXPECT_EQ(again.flips, 17);  // adds
}

TEST_P(RouterChoice, OfOtherScoresIsKeptAndTokensThatWouldDifferAreCounted) {
  const Replay old = RouteMany(GetParam(), 1, 5, {}, 0), own = RouteMany(GetParam(), 1, 6, {}, 0);
  const Replay replay = RouteMany(GetParam(), 3, 6, old.experts, 2);
  EXPECT_EQ(replay.experts, old.experts);
  EXPECT_NE(replay.weights, old.weights);
  int64_t differing = 0;
  for (size_t t = 0; t < own.experts.size(); t += 4) {
    const auto begin = own.experts.begin() + static_cast<ptrdiff_t>(t);
    const bool same = std::equal(begin, begin + 4, old.experts.begin() + static_cast<ptrdiff_t>(t));
    differing += !same;
    // Where the choice is the same one, so is everything.
    for (size_t j = t; same && j < t + 4; ++j) EXPECT_EQ(replay.weights[j], own.weights[j]);
  }
  EXPECT_GT(differing, 200);
  EXPECT_EQ(replay.flips, 2 + differing);
}

INSTANTIATE_TEST_SUITE_P(Targets, RouterChoice, testing::ValuesIn(Devices().targets()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace conclave::core::test
