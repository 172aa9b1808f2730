// SPDX-License-Identifier: Apache-2.0
// A file of stages on ranks that mpirun has started, bit for bit those of one rank.
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/recipe_run.h"
#include "tests/support/mpirun_test.h"

namespace conclave::launch {
namespace {

class MpiRecipe : public testing::MpirunTest {};

TEST_F(MpiRecipe, RanksGiveTheStatesScoresAndMetricsOfOne) {
  const RecipeFiles one, two;
  ASSERT_EQ(one.Train().code, 0);
  // The first stage on one rank, the rest on two that share the experts.
  ASSERT_EQ(two.Train({"--stage", "base"}).code, 0);
  const Outcome outcome =
      Program(two.folder(), two.TrainArguments({"parallel.expert=2"}), "/dev/null", {"mpirun", "-n", "2"}).Wait();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(two.Everything(), one.Everything());
}

}  // namespace
}  // namespace conclave::launch
