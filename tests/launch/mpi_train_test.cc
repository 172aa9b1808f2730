// SPDX-License-Identifier: Apache-2.0
// Training on ranks that mpirun has started, as a user does it: state, metrics and weights of one rank, whatever the
// mesh and however a run is ended; and one clear message for whatever is wrong.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/tiny_run.h"
#include "tests/support/mpirun_test.h"

namespace conclave::launch {
namespace {

using Words = std::vector<std::string>;

int Count(std::string_view text, std::string_view part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Deep enough for four stages, and with enough rows for four micro-batches on each of four data ranks.
const Words kModel = {"model.num_hidden_layers=4", "batch.sequences=16", "batch.micro_sequences=1"};
const Words kPipelineAndExperts = {"parallel.pipeline=2", "parallel.expert=2"};

class MpiTrain : public testing::MpirunTest {
 protected:
  struct Result {
    std::string hash, metrics, weights;
  };

  static void SetUpTestSuite() {
    const TinyRun run;
    ASSERT_EQ(run.Train(kModel).code, 0);
    one_rank_ = new Result(ResultOf(run));
  }
  static void TearDownTestSuite() { delete one_rank_; }
  static Program Start(const TinyRun& run, int ranks, const Words& overrides) {
    return Program(run.folder(), run.TrainArguments(kModel + overrides), "/dev/null",
                   {"mpirun", "-n", std::to_string(ranks)});
  }
  static Outcome Train(const TinyRun& run, int ranks, const Words& overrides) {
    return Start(run, ranks, overrides).Wait();
  }
  // All ranks end soon, with the code, and with one message of ours. mpirun adds its own.
  static Outcome ExpectError(Program program, int code) {
    const auto begin = std::chrono::steady_clock::now();
    const Outcome outcome = program.Wait();
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(Count(outcome.err + outcome.out, "error: "), 1) << outcome.err << outcome.out;
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << outcome.err;
    return outcome;
  }

  static std::string Newest(const TinyRun& run, int step) {
    return run.Dir() + "/checkpoints/step_" + std::to_string(step);
  }
  static Result ResultOf(const TinyRun& run) {
    // Without its manifest a checkpoint is a folder of weights, and its hash is theirs.
    const std::string weights = run.folder() / "weights";
    std::filesystem::remove_all(weights);
    std::filesystem::copy(Newest(run, 24), weights);
    std::filesystem::remove(weights + "/manifest.pb");
    return {run.Hash(), WithoutTimes(ReadFile(run.Metrics())),
            RunConclave(run.folder(), {"inspect", weights, "--hash"}).out};
  }
  static void ExpectAsOnOneRank(const TinyRun& run) {
    const Result result = ResultOf(run);
    EXPECT_EQ(result.hash, one_rank_->hash);
    EXPECT_EQ(result.metrics, one_rank_->metrics);
    EXPECT_EQ(result.weights, one_rank_->weights);
  }
  static std::vector<pid_t> RanksOf(const Program& mpirun) {
    const std::string pid = std::to_string(mpirun.pid());
    std::istringstream children(ReadFile("/proc/" + pid + "/task/" + pid + "/children"));
    return {std::istream_iterator<pid_t>(children), {}};
  }
  // Waits until no process works in the run folder.
  static bool WaitUntilFree(const TinyRun& run) {
    return WaitFor([&] {
      const int lock = ::open((run.Dir() + "/.lock").c_str(), O_RDWR | O_CLOEXEC);
      const bool free = lock >= 0 && ::flock(lock, LOCK_EX | LOCK_NB) == 0;
      ::close(lock);
      return free;
    });
  }
  static bool WaitForSteps(const TinyRun& run, int steps) {
    return WaitFor([&] { return CountLines(ReadFile(run.Metrics())) >= steps; });
  }

  static Result* one_rank_;
};

MpiTrain::Result* MpiTrain::one_rank_ = nullptr;

TEST_F(MpiTrain, EveryMeshGivesStateMetricsAndWeightsOfOneRank) {
  struct {
    int ranks;
    Words overrides;
  } const meshes[] = {{2, {"parallel.zero=2"}},
                      {2, {"parallel.pipeline=2", "parallel.schedule=dualpipe"}},
                      {4, kPipelineAndExperts},
                      {8, kPipelineAndExperts}};
  for (const auto& [ranks, overrides] : meshes) {
    SCOPED_TRACE(ranks);
    const TinyRun run;
    const Outcome outcome = Train(run, ranks, overrides);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(Count(outcome.out, "done: 24 steps"), 1) << outcome.out;
    EXPECT_EQ(Count(outcome.out, "new run"), 1) << outcome.out;
    EXPECT_EQ(Count(outcome.out, "\x1b"), 0) << "output through mpirun is text for files";
    ExpectAsOnOneRank(run);
  }
}

TEST_F(MpiTrain, ExpertsMoveBehindACheckpointAndChangeNoBit) {
  const TinyRun run;
  const Outcome outcome = Train(run, 2, {"parallel.expert=2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_GE(Count(outcome.out, "experts moved to balance the load of ranks"), 1) << outcome.out;
  ExpectAsOnOneRank(run);
}

TEST_F(MpiTrain, WithoutExactnessItSaysHowFarFloatSumsAreOff) {
  const TinyRun run;
  const Outcome outcome = Train(run, 2, {"exact=false", "parallel.expert=2", "train.steps=4"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Count(outcome.out, "float sums put the gradient of the first batch "), 1) << outcome.out;
}

TEST_F(MpiTrain, TheBannerTellsWhoHoldsWhatAndWhoNeedsMostMemory) {
  const TinyRun run;
  const Outcome outcome = Train(run, 4, kPipelineAndExperts + Words{"--dry-run"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part :
       {"layout     pipeline 2 x data 2 (expert 2), dualpipev: 4 stages, 8 micro-batches of 1 row\n",
        "           4 ranks on 1 host (", "pipeline 0  stage 0: embedding, block 0; stage 3: block 3, head and loss\n",
        "pipeline 1  stage 1: block 1; stage 2: block 2\n", ", the most of all ranks\n", "dry run: "}) {
    EXPECT_EQ(Count(outcome.out, part), 1) << part << outcome.out;
  }
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
}

TEST_F(MpiTrain, WeightsOfAFolderGoToTheRanksThatHoldThem) {
  const TinyRun first;
  ASSERT_EQ(first.Train(kModel).code, 0);
  const auto train_from = [&first](const Words& launcher, const Words& overrides) {
    const TinyRun run;
    const std::string config = ReadFile(run.folder() / "config.yaml");
    WriteFile(run.folder() / "config.yaml", config.substr(config.find("data:")));
    const Words from = {"model.from=" + Newest(first, 24), "batch.sequences=16", "batch.micro_sequences=1",
                        "train.steps=4"};
    const Outcome outcome = Program(run.folder(), run.TrainArguments(from + overrides), "/dev/null", launcher).Wait();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return run.Hash();
  };
  const std::string on_one_rank = train_from({}, {});
  EXPECT_EQ(train_from({"mpirun", "-n", "4"}, kPipelineAndExperts), on_one_rank);
}

TEST_F(MpiTrain, KilledUnderOneMeshAndResumedUnderAnotherGivesTheSameBits) {
  const TinyRun run;
  Program killed = Start(run, 4, kPipelineAndExperts);
  ASSERT_TRUE(WaitFor([&] { return std::filesystem::exists(Newest(run, 4)); }));
  const std::vector<pid_t> ranks = RanksOf(killed);
  EXPECT_EQ(ranks.size(), 4u);
  killed.Signal(SIGKILL);
  for (const pid_t rank : ranks) ::kill(rank, SIGKILL);  // they would outlive mpirun for a while
  EXPECT_EQ(killed.Wait().code, -SIGKILL);
  ASSERT_TRUE(WaitUntilFree(run));

  Program stopped = Start(run, 2, {"parallel.expert=2"});
  ASSERT_TRUE(WaitFor([&] { return std::filesystem::exists(Newest(run, 12)); }));
  ::kill(RanksOf(stopped).back(), SIGTERM);  // one rank alone is told
  const Outcome saved = stopped.Wait();
  EXPECT_EQ(saved.code, 75) << saved.err;
  EXPECT_EQ(Count(saved.out, "the same command goes on"), 1) << saved.out;

  const Outcome outcome = Train(run, 2, {"parallel.pipeline=2", "parallel.schedule=zb1p"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Count(outcome.out, "resuming from"), 1) << outcome.out;
  ExpectAsOnOneRank(run);
}

TEST_F(MpiTrain, StoppedByUsr1AllRanksSaveTheSameStepAndAskToBeRequeued) {
  const TinyRun run;
  Program program = Start(
      run, 2, {"parallel.expert=2", "train.steps=1000000", "train.checkpoint_every=0", "optim.schedule.name=constant"});
  ASSERT_TRUE(WaitForSteps(run, 3));
  program.Signal(SIGUSR1);
  const Outcome outcome = program.Wait();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_EQ(Count(outcome.out, "the same command goes on"), 1) << outcome.out;
  EXPECT_TRUE(std::filesystem::exists(Newest(run, static_cast<int>(CountLines(ReadFile(run.Metrics()))))));
}

// A rank may write no file of more than some KiB, as on a full disk.
TEST_F(MpiTrain, ASaveThatFailsOnOneRankIsOneWarningAndTrainingGoesOn) {
  ::setenv("OMPI_MCA_btl", "tcp,self", 1);  // other transports need files of their own
  const TinyRun run;
  const Words limited = {"mpirun", "-n", "1", CONCLAVE_BINARY, "train", run.folder() / "config.yaml", "--threads", "1"};
  Program program(
      run.folder(), run.TrainArguments(kModel), "/dev/null",
      limited + kModel + Words{":", "-n", "1", "sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""});
  const Outcome outcome = program.Wait();
  ::unsetenv("OMPI_MCA_btl");
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_EQ(Count(outcome.err, "was not saved"), 6) << outcome.err;
  EXPECT_EQ(Count(outcome.err, "step 8 was not saved: rank 0 on "), 1) << outcome.err;
  EXPECT_EQ(Count(outcome.err, "model-part00002-00001.safetensors"), 6) << outcome.err;
  EXPECT_EQ(Count(outcome.err, "error: "), 1) << outcome.err;
  EXPECT_EQ(WithoutTimes(ReadFile(run.Metrics())), one_rank_->metrics);
  EXPECT_TRUE(std::filesystem::is_empty(run.Dir() + "/checkpoints"));
}

TEST_F(MpiTrain, WhatDoesNotFitTheRanksIsOneMessage) {
  struct {
    int ranks;
    Words overrides;
    const char* message;
  } const cases[] = {
      {3, {"parallel.pipeline=2"}, "3 ranks do not fit parallel.pipeline=2 x parallel.expert=1"},
      {2, {"parallel.pipeline=2", "model.num_hidden_layers=2"}, "4 pipeline stages are more than the model's 2 layers"},
      {2,
       {"parallel.pipeline=2", "parallel.schedule=dualpipe", "batch.sequences=5"},
       "batch.micro_sequences: dualpipe lets half of the micro-batches enter at each end: it needs an even number"},
      {2, {"data.train.0.path=/nowhere.txt"}, "data.train.0.path: /nowhere.txt"}};
  for (const auto& [ranks, overrides, message] : cases) {
    const TinyRun run;
    const int code = std::string_view(message).starts_with("data") ? 1 : 2;
    const Outcome outcome = ExpectError(Start(run, ranks, overrides), code);
    EXPECT_EQ(Count(outcome.err, message), 1) << outcome.err;
  }
}

TEST_F(MpiTrain, OtherConfigsAndCommandsOnSomeRanksAreOneMessage) {
  const TinyRun run;
  const Words first = {"mpirun", "-n", "1", CONCLAVE_BINARY, "train", run.folder() / "config.yaml", ":", "-n", "1"};
  const Outcome config =
      ExpectError(Program(run.folder(), run.TrainArguments({"optim.lr=1.0"}), "/dev/null", first), 2);
  EXPECT_EQ(Count(config.err, "rank 1 differs from rank 0"), 1) << config.err;
  EXPECT_EQ(Count(config.err, "`  lr: 1.0`, on rank 0 `  lr: 0.003`"), 1) << config.err;
  const Outcome dry = ExpectError(Program(run.folder(), run.TrainArguments({"--dry-run"}), "/dev/null", first), 2);
  EXPECT_EQ(Count(dry.err, "`train --dry-run`, on rank 0 `train`"), 1) << dry.err;
  const Outcome missing = ExpectError(Program(run.folder(), {"train", "nowhere.yaml"}, "/dev/null", first), 2);
  EXPECT_EQ(Count(missing.err, "error: rank 1 on "), 1) << missing.err;
}

TEST_F(MpiTrain, CommandsOfOneRankRefuseALauncherAndWrongOnesAreOneMessage) {
  const TemporaryFolder folder;
  const Words two = {"mpirun", "-n", "2"};
  const Outcome inspect = ExpectError(Program(folder, {"inspect", "x"}, "/dev/null", two), 2);
  EXPECT_EQ(Count(inspect.err, "this command runs on one rank, and 2 were started"), 1) << inspect.err;
  const Outcome unknown = ExpectError(Program(folder, {"trian"}, "/dev/null", two), 2);
  EXPECT_EQ(Count(unknown.err, "did you mean train?"), 1) << unknown.err;
}

TEST_F(MpiTrain, ARunWhoseOnlyCheckpointIsNotWholeIsNotBegunAnew) {
  const TinyRun run;
  ASSERT_EQ(Train(run, 2, {"train.steps=8"}).code, 0);
  const std::string shard = "/optimizer/state-00002-of-00002.safetensors";
  const std::string metrics = ReadFile(run.Metrics());
  std::filesystem::rename(Newest(run, 8) + shard, run.folder() / "kept");
  std::filesystem::rename(Newest(run, 4), run.folder() / "step_4");
  const Outcome missing = ExpectError(Start(run, 2, {}), 1);
  EXPECT_EQ(Count(missing.err, shard), 1) << missing.err;
  std::filesystem::copy(run.folder() / ("step_4" + shard), Newest(run, 8) + shard);
  const Outcome foreign = ExpectError(Start(run, 2, {}), 1);
  EXPECT_EQ(Count(foreign.err, shard + " is damaged, or of another checkpoint"), 1) << foreign.err;
  EXPECT_EQ(ReadFile(run.Metrics()), metrics);
}

}  // namespace
}  // namespace conclave::launch
