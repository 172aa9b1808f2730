// SPDX-License-Identifier: Apache-2.0
// Problems on many ranks: the figures of one.
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/tiny_grpo.h"
#include "tests/support/mpirun_test.h"

namespace conclave::launch {
namespace {

using Words = std::vector<std::string>;

Words Mpirun(int ranks) { return {"mpirun", "-n", std::to_string(ranks)}; }

class MpiEval : public testing::MpirunTest {};

TEST_F(MpiEval, EveryMeshGivesTheFiguresOfOneRank) {
  const TinyGrpo run;
  ASSERT_EQ(run.Train({"train.steps=1"}).code, 0);
  const Words words = {"eval", run.Dir(), "--json", "--threads", "1", "--tasks", "addition", "--prompts", "7"};
  const Outcome alone = RunConclave(run.folder(), words);
  ASSERT_EQ(alone.code, 0) << alone.err;
  struct {
    int ranks;
    Words overrides;
  } const meshes[] = {{2, {}},
                      {2, {"parallel.expert=2"}},
                      {2, {"parallel.pipeline=2"}},
                      {4, {"parallel.pipeline=2", "parallel.expert=2", "parallel.schedule=1f1b"}}};
  for (const auto& [ranks, overrides] : meshes) {
    Words arguments = words;
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    const Outcome outcome = Program(run.folder(), arguments, "/dev/null", Mpirun(ranks)).Wait();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, alone.out) << ranks;
  }
}

TEST_F(MpiEval, ErrorsAreOneMessage) {
  const TinyGrpo run;
  ASSERT_EQ(run.Train({"train.steps=1"}).code, 0);
  const Outcome outcome =
      Program(run.folder(), {"eval", run.Dir(), "--problems", "absent.jsonl"}, "/dev/null", Mpirun(2)).Wait();
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  const size_t at = outcome.err.find("absent.jsonl");
  ASSERT_NE(at, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("error: ", at), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace conclave::launch
