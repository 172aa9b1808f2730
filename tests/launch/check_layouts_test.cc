// SPDX-License-Identifier: Apache-2.0
// `conclave check-layouts` as a user starts it.
#include <gtest/gtest.h>

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

TEST(CheckLayouts, FindsTheSameBitsInEveryLayoutOfAConfig) {
  const TinyRun run;
  const Outcome outcome =
      RunConclave(run.folder(), {"check-layouts", run.folder() / "config.yaml", "batch.sequences=8", "--ranks", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "2 ranks: pipeline 2 x data 1, 1f1b")) << outcome.out;
  EXPECT_TRUE(
      Contains(outcome.out, "no such layout: parallel.pipeline: 4 pipeline stages are more than the model's 2 layers"))
      << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, " layouts end in the same bits, 0 do not; ")) << outcome.out;
  EXPECT_FALSE(Contains(outcome.out, "DIFFERENT"));
}

TEST(CheckLayouts, RefusesWhatIsNoConfig) {
  const TinyRun run;
  const Outcome outcome = RunConclave(run.folder(), {"check-layouts", "nothing.yaml"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(Contains(outcome.err, "nothing.yaml")) << outcome.err;
}

}  // namespace
}  // namespace conclave::launch
