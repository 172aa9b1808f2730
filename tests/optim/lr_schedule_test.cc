// SPDX-License-Identifier: Apache-2.0
#include "optim/lr_schedule.h"

#include <cmath>

#include "gtest/gtest.h"

namespace conclave::optim {
namespace {

core::OptimConfig Config(const std::string& name) {
  core::OptimConfig config;
  config.lr = 2.0;
  config.schedule.name = name;
  config.schedule.warmup_steps = 10;
  config.schedule.final_factor = 0.1;
  return config;
}

TEST(LearningRate, WarmsUpLinearlyToThePeak) {
  for (const char* name : {"constant", "linear", "cosine", "wsd", "deepseek_v3"}) {
    EXPECT_DOUBLE_EQ(LearningRate(Config(name), 1, 100), 0.2) << name;
    EXPECT_DOUBLE_EQ(LearningRate(Config(name), 10, 100), 2.0) << name;
  }
}

TEST(LearningRate, EndsAtTheFinalFactor) {
  EXPECT_DOUBLE_EQ(LearningRate(Config("constant"), 100, 100), 2.0);
  for (const char* name : {"linear", "cosine", "wsd", "deepseek_v3"}) {
    EXPECT_NEAR(LearningRate(Config(name), 100, 100), 0.2, 1e-15) << name;
  }
}

TEST(LearningRate, CosineIsHalfWayInTheMiddle) {
  EXPECT_NEAR(LearningRate(Config("cosine"), 55, 100), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(LearningRate(Config("linear"), 55, 100), 2.0 * (1 - 0.9 * 0.5), 1e-12);
}

TEST(LearningRate, WsdStaysUntilTheLastTenth) {
  EXPECT_DOUBLE_EQ(LearningRate(Config("wsd"), 90, 100), 2.0);
  EXPECT_NEAR(LearningRate(Config("wsd"), 95, 100), 2.0 * 0.55, 1e-12);
}

// DeepSeek-V3 report, section 4.2: warm-up, constant, cosine to a tenth, constant, then 7.3e-6 for the last part.
TEST(LearningRate, DeepSeekV3HasTwoConstantTails) {
  core::OptimConfig config = Config("deepseek_v3");
  config.schedule.constant_steps = 40;
  config.schedule.decay_steps = 30;
  config.schedule.tail_steps = 8;
  config.schedule.tail_factor = 0.03;
  EXPECT_DOUBLE_EQ(LearningRate(config, 50, 100), 2.0);
  EXPECT_NEAR(LearningRate(config, 65, 100), 2.0 * 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(config, 80, 100), 0.2, 1e-15);
  EXPECT_NEAR(LearningRate(config, 92, 100), 0.2, 1e-15);
  EXPECT_DOUBLE_EQ(LearningRate(config, 93, 100), 0.06);
}

}  // namespace
}  // namespace conclave::optim
