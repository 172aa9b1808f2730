// SPDX-License-Identifier: Apache-2.0
// Stages reject and distill on ranks that mpirun has started, bit for bit those of one rank.
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/reject_run.h"
#include "tests/support/mpirun_test.h"

namespace conclave::launch {
namespace {

Outcome TrainOnRanks(const RejectRun& run, int ranks, const std::vector<std::string>& overrides) {
  return Program(run.folder(), run.TrainArguments(overrides), "/dev/null", {"mpirun", "-n", std::to_string(ranks)})
      .Wait();
}

class MpiReject : public testing::MpirunTest {
 protected:
  void SetUp() override {
    MpirunTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(model_.Train().code, 0);
  }
  const SampledModel model_;
};

TEST_F(MpiReject, EveryMeshWritesTheSamplesOfOneRank) {
  const RejectRun one(RejectRun::OfReject(model_));
  ASSERT_EQ(one.Train().code, 0);
  const struct {
    int ranks;
    std::vector<std::string> overrides;
  } meshes[] = {{2, {}},
                {2, {"parallel.expert=2"}},
                {2, {"parallel.pipeline=2"}},
                {4, {"parallel.pipeline=2", "parallel.expert=2", "parallel.schedule=interleaved"}},
                {4, {"rollout.prompts=3"}}};
  for (const auto& [ranks, overrides] : meshes) {
    SCOPED_TRACE(overrides.empty() ? "data" : overrides[0]);
    const RejectRun run(RejectRun::OfReject(model_));
    const Outcome outcome = TrainOnRanks(run, ranks, overrides);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(run.Lines(), one.Lines());
    EXPECT_EQ(TrainOnRanks(run, ranks, overrides).code, 0) << "already done";
  }
  const RejectRun alone(RejectRun::OfDistill(model_)), run(RejectRun::OfDistill(model_));
  ASSERT_EQ(alone.Train().code, 0);
  ASSERT_EQ(TrainOnRanks(run, 2, {}).code, 0);
  EXPECT_EQ(run.Hash(), alone.Hash());
  EXPECT_EQ(run.TeacherLines(), alone.TeacherLines());
}

TEST_F(MpiReject, EveryMeshLearnsWhatOneRankLearnsFromDistributions) {
  for (const char* loss : {RejectRun::kForwardKl, RejectRun::kOwnSamples}) {
    const RejectRun one(RejectRun::OfDistill(model_, loss));
    ASSERT_EQ(one.Train().code, 0);
    const struct {
      int ranks;
      std::vector<std::string> overrides;
    } meshes[] = {{2, {}},
                  {2, {"parallel.pipeline=2", "parallel.schedule=1f1b"}},
                  {4, {"parallel.pipeline=2", "parallel.schedule=zb1p", "batch.micro_sequences=1"}}};
    for (const auto& [ranks, overrides] : meshes) {
      SCOPED_TRACE(loss + (overrides.empty() ? "data" : overrides[0]));
      const RejectRun run(RejectRun::OfDistill(model_, loss));
      const Outcome outcome = TrainOnRanks(run, ranks, overrides);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      EXPECT_EQ(run.Hash(), one.Hash());
      EXPECT_EQ(run.Metrics(), one.Metrics());
    }
  }
}

TEST_F(MpiReject, AllRanksEndWhenNothingIsKept) {
  const RejectRun run(RejectRun::OfReject(model_));
  const Outcome outcome = TrainOnRanks(run, 2, {"rollout.max_tokens=2"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("no sample was kept"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace conclave::launch
