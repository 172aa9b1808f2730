// SPDX-License-Identifier: Apache-2.0
// The layout law: no mesh, schedule, number of threads or cut into micro-batches changes a bit of state or metrics.
#include "absl/strings/str_format.h"

#include "tests/support/layout_run.h"

namespace conclave {
namespace {

using testing::LayoutResult;
using testing::LayoutSetup;
using testing::TrainInLayout;

LayoutSetup Small() {
  LayoutSetup setup{.config = testing::TinyConfig()};
  setup.config.model.num_hidden_layers = 4;
  return setup;
}

TEST(LayoutLaw, DataRanks) {
  const LayoutResult one = TrainInLayout(Small());
  LayoutSetup setup = Small();
  setup.ranks = 2;
  const LayoutResult two = TrainInLayout(setup);
  EXPECT_EQ(two.error, "");
  EXPECT_EQ(two.hash, one.hash);
  EXPECT_EQ(two.figures, one.figures);
  EXPECT_TRUE(two.memory_as_planned);
}

TEST(LayoutLaw, ExpertRanks) {
  const LayoutResult one = TrainInLayout(Small());
  LayoutSetup setup = Small();
  setup.ranks = 2;
  setup.config.parallel.expert = 2;
  const LayoutResult two = TrainInLayout(setup);
  EXPECT_EQ(two.error, "");
  EXPECT_EQ(two.hash, one.hash);
  EXPECT_EQ(two.figures, one.figures);
  EXPECT_TRUE(two.memory_as_planned);
}

TEST(LayoutLaw, PipelineRanks) {
  const LayoutResult one = TrainInLayout(Small());
  for (const char* schedule : parallel::kScheduleNames) {
    LayoutSetup setup = Small();
    setup.ranks = 2;
    setup.config.parallel.pipeline = 2;
    setup.config.parallel.schedule = schedule;
    const LayoutResult two = TrainInLayout(setup);
    EXPECT_EQ(two.error, "");
    EXPECT_EQ(two.hash, one.hash) << schedule;
    EXPECT_EQ(two.figures, one.figures) << schedule;
    EXPECT_TRUE(two.memory_as_planned) << schedule;
  }
}

}  // namespace
}  // namespace conclave
