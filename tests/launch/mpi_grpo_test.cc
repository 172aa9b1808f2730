// SPDX-License-Identifier: Apache-2.0
// Twenty steps of stage grpo on ranks that mpirun has started, bit for bit those of one rank.
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/grpo_run.h"
#include "tests/support/mpirun_test.h"

namespace conclave::launch {
namespace {

Outcome TrainOnRanks(const GrpoRun& run, int ranks, const std::vector<std::string>& overrides) {
  return Program(run.folder(), run.TrainArguments(overrides), "/dev/null", {"mpirun", "-n", std::to_string(ranks)})
      .Wait();
}

class MpiGrpo : public testing::MpirunTest {
 protected:
  // On some meshes, against the same run on one rank.
  static void ExpectSameOnEveryMesh(const GrpoRun& one, const std::vector<std::string>& common, int steps) {
    const struct {
      int ranks;
      std::vector<std::string> overrides;
    } meshes[] = {{2, {}},
                  {2, {"parallel.expert=2"}},
                  {2, {"parallel.pipeline=2", "parallel.schedule=1f1b"}},
                  {4, {"parallel.pipeline=2", "parallel.expert=2", "parallel.schedule=zbv"}}};
    for (const auto& [ranks, overrides] : meshes) {
      SCOPED_TRACE(overrides.empty() ? "data" : overrides[0]);
      std::vector<std::string> all = common;
      all.insert(all.end(), overrides.begin(), overrides.end());
      const GrpoRun run;
      const Outcome outcome = TrainOnRanks(run, ranks, all);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      EXPECT_EQ(run.Hash(), one.Hash());
      EXPECT_EQ(run.Metrics(), one.Metrics());
      EXPECT_EQ(run.Rollout(steps), one.Rollout(steps));
    }
  }
};

TEST_F(MpiGrpo, EveryMeshGivesTheRolloutsMetricsAndStateOfOneRank) {
  const GrpoRun one;
  ASSERT_EQ(one.Train().code, 0);
  ExpectSameOnEveryMesh(one, {}, 20);
  // Begun on four ranks, ended on one.
  const GrpoRun run;
  ASSERT_EQ(TrainOnRanks(run, 4, {"parallel.expert=4", "train.steps=10"}).code, 0);
  ASSERT_EQ(run.Train().code, 0);
  EXPECT_EQ(run.Hash(), one.Hash());
  EXPECT_EQ(run.Metrics(), one.Metrics());
  const std::vector<std::string> latent = {"rollout.cache=latent", "train.steps=5"};
  const GrpoRun alone, pair;
  ASSERT_EQ(alone.Train(latent).code, 0);
  ASSERT_EQ(TrainOnRanks(pair, 2, {latent[0], latent[1], "parallel.expert=2", "parallel.zero=2"}).code, 0);
  EXPECT_EQ(pair.Hash(), alone.Hash());
  EXPECT_EQ(pair.Metrics(), alone.Metrics());
}

TEST_F(MpiGrpo, EveryMeshReplaysTheChoicesOfExpertsOfOneRank) {
  const std::vector<std::string> replay = {"grpo.router_replay=true", "grpo.passes=2", "train.steps=6"};
  const GrpoRun one;
  ASSERT_EQ(one.Train(replay).code, 0);
  ExpectSameOnEveryMesh(one, replay, 6);
}

}  // namespace
}  // namespace conclave::launch
