// SPDX-License-Identifier: Apache-2.0
// The restart law: however a run is ended and started again, state and metrics are those of an uninterrupted one.
#include <algorithm>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

class Restart : public ::testing::Test {
 protected:
  // The uninterrupted run that all others must equal.
  static void SetUpTestSuite() {
    const TinyRun whole;
    ASSERT_EQ(whole.Train().code, 0);
    hash_ = new std::string(whole.Hash());
    metrics_ = new std::string(WithoutTimes(ReadFile(whole.Metrics())));
  }
  static void TearDownTestSuite() {
    delete hash_;
    delete metrics_;
  }
  static void ExpectSame(const TinyRun& run) {
    EXPECT_EQ(run.Hash(), *hash_);
    EXPECT_EQ(WithoutTimes(ReadFile(run.Metrics())), *metrics_);
  }

  static std::string* hash_;
  static std::string* metrics_;
};

std::string* Restart::hash_ = nullptr;
std::string* Restart::metrics_ = nullptr;

TEST_F(Restart, UninterruptedRunHasALinePerStepAndAHash) {
  EXPECT_EQ(CountLines(*metrics_), 24);
  EXPECT_EQ(hash_->size(), 33u);
}

TEST_F(Restart, KilledAtAnyInstantAndResumedGivesTheSameBits) {
  for (uint64_t trial = 0; trial < 3; ++trial) {
    const TinyRun run;
    int kills = 0;
    for (uint64_t start = 0;; ++start) {
      ASSERT_LT(start, 200u);
      Program program(run.folder(), run.TrainArguments());
      // Anywhere between the start of the process and about its end.
      const uint64_t draw = core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 0), start, 0)[0];
      std::this_thread::sleep_for(std::chrono::microseconds(draw % 150000 + start * 2000));
      program.Signal(SIGKILL);
      const Outcome outcome = program.Wait();
      if (outcome.code == 0) break;
      ASSERT_EQ(outcome.code, -SIGKILL) << outcome.err;
      ++kills;
    }
    SCOPED_TRACE(kills);
    ExpectSame(run);
  }
}

TEST_F(Restart, KilledRightAfterEachCheckpointGivesTheSameBits) {
  const TinyRun run;
  for (int step = 4; step < 24; step += 4) {
    Program program(run.folder(), run.TrainArguments());
    const std::string checkpoint = run.Dir() + "/checkpoints/step_" + std::to_string(step);
    WaitFor([&] { return std::filesystem::exists(checkpoint); });
    program.Signal(SIGKILL);
    program.Wait();
  }
  const Outcome last = run.Train();
  ASSERT_EQ(last.code, 0) << last.err;
  ExpectSame(run);
}

TEST_F(Restart, StoppedByTermSavesAndAsksToBeRequeued) {
  const TinyRun run;
  Program program(run.folder(), run.TrainArguments({"train.steps=1000000", "train.checkpoint_every=0",
                                                    "optim.schedule.name=constant"}));
  ASSERT_TRUE(WaitFor([&] { return CountLines(ReadFile(run.Metrics())) >= 3; }));
  program.Signal(SIGTERM);
  const Outcome outcome = program.Wait();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_NE(outcome.out.find("the same command goes on"), std::string::npos) << outcome.out;
  EXPECT_TRUE(
      std::filesystem::exists(run.Dir() + "/checkpoints/step_" + std::to_string(CountLines(ReadFile(run.Metrics())))));
}

TEST_F(Restart, StoppedByCtrlCAndResumedWithMoreStepsGoesOn) {
  const TinyRun run;
  const std::vector<std::string> constant = {"optim.schedule.name=constant", "train.steps=1000000"};
  Program program(run.folder(), run.TrainArguments(constant));
  ASSERT_TRUE(WaitFor([&] { return CountLines(ReadFile(run.Metrics())) >= 3; }));
  program.Signal(SIGINT);
  EXPECT_EQ(program.Wait().code, 130);
  const int64_t done = CountLines(ReadFile(run.Metrics()));
  const Outcome more = run.Train({"optim.schedule.name=constant", "train.steps=" + std::to_string(done + 2)});
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_NE(more.out.find("resuming from"), std::string::npos);
  EXPECT_EQ(CountLines(ReadFile(run.Metrics())), done + 2);
}

TEST_F(Restart, StoppedByUsr1AndResumedGivesTheSameBits) {
  const TinyRun run;
  Program program(run.folder(), run.TrainArguments());
  WaitFor([&] { return CountLines(ReadFile(run.Metrics())) >= 2; });
  program.Signal(SIGUSR1);
  const int code = program.Wait().code;
  EXPECT_TRUE(code == 75 || code == 0) << code;  // 0: it was quicker
  EXPECT_EQ(run.Train().code, 0);
  ExpectSame(run);
}

TEST_F(Restart, FinishedRunSaysSoAndChangesNothing) {
  const TinyRun run;
  ASSERT_EQ(run.Train().code, 0);
  const std::string metrics = ReadFile(run.Metrics());
  const Outcome again = run.Train();
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("already done"), std::string::npos) << again.out;
  EXPECT_EQ(ReadFile(run.Metrics()), metrics);
  ExpectSame(run);
}

TEST_F(Restart, OtherMicroBatchesAndThreadsGiveTheSameBits) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"batch.micro_sequences=1", "train.steps=12"}).code, 0);
  const Outcome outcome =
      RunConclave(run.folder(), {"train", run.folder() / "config.yaml", "batch.micro_sequences=4", "--threads", "3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  // The schedule of the first half was that of 12 steps: only the rest of the law holds, so compare with a run alike.
  const TinyRun alike;
  ASSERT_EQ(alike.Train({"train.steps=12"}).code, 0);
  ASSERT_EQ(alike.Train().code, 0);
  EXPECT_EQ(run.Hash(), alike.Hash());
}

TEST_F(Restart, DamagedNewestCheckpointIsSkippedWithAWarning) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"train.steps=8"}).code, 0);
  const std::string damaged = run.Dir() + "/checkpoints/step_8/model.safetensors";
  std::string bytes = ReadFile(damaged);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  WriteFile(damaged, bytes);
  const Outcome outcome = run.Train({"train.steps=8"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("skipped checkpoint"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("step_4"), std::string::npos) << outcome.out;
}

TEST_F(Restart, RunWithoutAWholeCheckpointIsNotBegunAnew) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"train.steps=4"}).code, 0);
  const std::string weights = run.Dir() + "/checkpoints/step_4/model.safetensors", metrics = ReadFile(run.Metrics());
  std::filesystem::rename(weights, run.folder() / "kept");
  const Outcome refused = run.Train();
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("no checkpoint that is whole"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find(weights), std::string::npos) << refused.err;
  EXPECT_EQ(ReadFile(run.Metrics()), metrics);
  std::filesystem::rename(run.folder() / "kept", weights);
  EXPECT_EQ(run.Train().code, 0);
}

}  // namespace
}  // namespace conclave::launch
