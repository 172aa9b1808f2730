// SPDX-License-Identifier: Apache-2.0
// A file of stages on ranks that mpirun has started, bit for bit those of one rank.
#include <stdlib.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/recipe_run.h"

namespace conclave::launch {
namespace {

TEST(MpiRecipe, RanksGiveTheStatesScoresAndMetricsOfOne) {
  ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
  ::setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);  // containers may forbid it
  if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "mpirun is not installed (openmpi-bin)";
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
