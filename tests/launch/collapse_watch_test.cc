// SPDX-License-Identifier: Apache-2.0
// Each known way to ruin gives its warning once; a good run gives none.
#include "launch/collapse_watch.h"

#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace conclave::launch {
namespace {

rl::GrpoMetrics Good(int64_t step) {
  rl::GrpoMetrics metrics{.step = step};
  metrics.parts = {0.3};
  metrics.reward.mean = 0.3;
  metrics.without_spread = 0.4;
  metrics.entropy = 0.6;
  return metrics;
}

std::vector<std::string> WarningsOf(const std::function<void(rl::GrpoMetrics&)>& change) {
  CollapseWatch watch;
  std::vector<std::string> all;
  for (int64_t step = 1; step <= 60; ++step) {
    rl::GrpoMetrics metrics = Good(step);
    change(metrics);
    for (const std::string& warning : watch.Look(metrics)) all.push_back(warning);
  }
  return all;
}

void ExpectOne(const std::vector<std::string>& warnings, const std::string& part) {
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find(part), std::string::npos) << warnings[0];
}

TEST(CollapseWatch, SaysNothingOfAGoodRun) {
  EXPECT_TRUE(WarningsOf([](rl::GrpoMetrics&) {}).empty());
}

TEST(CollapseWatch, SaysOnceWhatGoesWrong) {
  ExpectOne(WarningsOf([](rl::GrpoMetrics& m) { m.parts[0] = 0.01; }), "hardly a signal");
  ExpectOne(WarningsOf([](rl::GrpoMetrics& m) { m.without_spread = 0.97; }), "equal rewards");
  ExpectOne(WarningsOf([](rl::GrpoMetrics& m) { m.reward.mean = m.step < 30 ? 0.4 : 0.1; }), "optim.lr");
  ExpectOne(WarningsOf([](rl::GrpoMetrics& m) { m.entropy = 0.005; }), "pass@k");
}

}  // namespace
}  // namespace conclave::launch
