// SPDX-License-Identifier: Apache-2.0
// Ranks as processes: the laws of every communicator, and how a job ends when one of its ranks does. Starts mpirun,
// whose own text about an aborted job stands in the output beside ours.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace conclave::parallel::test {
namespace {

struct Outcome {
  int code = -1;  // of mpirun
  double seconds = 0;
  std::string output;  // both streams
};

Outcome Shell(const std::string& command) {
  const auto begin = std::chrono::steady_clock::now();
  Outcome outcome;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  char block[4096];
  while (const size_t bytes = std::fread(block, 1, sizeof(block), pipe)) outcome.output.append(block, bytes);
  const int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return outcome;
}

int Count(std::string_view text, std::string_view part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

class Mpi : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Shell("mpirun --version").code != 0) GTEST_SKIP() << "mpirun is not installed (openmpi-bin)";
    // Open MPI refuses root, more ranks than cores, and in containers its copies between processes may be forbidden.
    for (const char* name :
         {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"}) {
      ::setenv(name, "1", 1);
    }
    ::setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
  }
  static Outcome Run(const std::string& scenario) {
    return Shell("timeout 60 mpirun --oversubscribe -n 4 " MPI_RANKS_BINARY " --gtest_color=no " + scenario);
  }
  // All ranks end soon, with an exit code, and with one message of ours.
  static Outcome RunToFail(const std::string& scenario) {
    const Outcome outcome = Run(scenario);
    EXPECT_NE(outcome.code, 0) << outcome.output;
    EXPECT_LT(outcome.seconds, 5) << outcome.output;
    EXPECT_LE(Count(outcome.output, "error: "), 1) << outcome.output;
    return outcome;
  }
};

TEST_F(Mpi, DoesWhatEveryCommDoes) {
  const Outcome outcome = Run("laws");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "[  PASSED  ] 3 tests"), 1) << outcome.output;
}

TEST_F(Mpi, KnowsTheRanksOfThisHost) {
  const Outcome outcome = Run("describe");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "4 ranks on 1 host ("), 4) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "local rank 3 of 4; 4 to a host"), 1) << outcome.output;
}

TEST_F(Mpi, FailedCheckEndsAllRanksAndTellsWhere) {
  const Outcome outcome = RunToFail("check");
  EXPECT_EQ(Count(outcome.output, "(data 1): "), 1) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "error: rank 1 on "), 1) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "CHECK failed: world.rank() == 7 (1 vs 7)"), 1) << outcome.output;
}

TEST_F(Mpi, FailedCheckInAThreadEndsAllRanks) {
  const Outcome outcome = RunToFail("check-in-thread");
  EXPECT_EQ(Count(outcome.output, "error: rank 1 on "), 1) << outcome.output;
}

TEST_F(Mpi, ErrorOfOneRankThatNobodyKnowsEndsAllRanks) {
  const Outcome outcome = RunToFail("error");
  EXPECT_EQ(Count(outcome.output, "(data 1): x.jsonl: no such file"), 1) << outcome.output;
}

TEST_F(Mpi, ExitOrDeathOfOneRankEndsAllRanks) {
  for (const char* scenario : {"exit", "exit-in-success", "kill"}) RunToFail(scenario);
}

TEST_F(Mpi, MessagesOfOtherSizesEndAllRanks) {
  const Outcome too_short = RunToFail("short-message");
  EXPECT_EQ(Count(too_short.output,
                  "communicator world, rank 1 of 4: Receive: rank 0 sends 16 bytes to rank 1, which "
                  "expects 24"),
            1)
      << too_short.output;
  const Outcome too_long = RunToFail("long-message");
  EXPECT_EQ(Count(too_long.output, "communicator world, rank 1 of 4: Receive: MPI_ERR_TRUNCATE"), 1) << too_long.output;
}

TEST_F(Mpi, AnErrorAgreedOnIsPrintedByTheLowestRankThatHasIt) {
  const Outcome outcome = RunToFail("agree");
  EXPECT_EQ(Count(outcome.output, "1: new, DATA_LOSS: rank 1 on "), 1) << outcome.output;
  EXPECT_EQ(Count(outcome.output, ": disk 1 is full"), 1) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "disk 3"), 0) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "reported, DATA_LOSS: rank 1 failed"), 3) << outcome.output;
}

TEST_F(Mpi, TellsWhichRanksHaveAnotherText) {
  const Outcome outcome = RunToFail("other-text");
  EXPECT_EQ(Count(outcome.output, "the config is not the same on all ranks: ranks 2-3 differ from rank 0; on rank 2 ("),
            1)
      << outcome.output;
  EXPECT_EQ(Count(outcome.output, "line 2 is `  layers: 3`, on rank 0 `  layers: 2`"), 1) << outcome.output;
}

TEST_F(Mpi, RefusesRanksOfAnotherProgram) {
  const std::string other = ::testing::TempDir() + "mpi_ranks_of_another_build";
  std::filesystem::copy_file(MPI_RANKS_BINARY, other, std::filesystem::copy_options::overwrite_existing);
  std::ofstream(other, std::ios::app) << "one byte more";
  const Outcome outcome =
      Shell("timeout 60 mpirun --oversubscribe -n 1 " MPI_RANKS_BINARY " describe : -n 1 '" + other + "' describe");
  std::filesystem::remove(other);
  EXPECT_EQ(outcome.code, 2) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "error: "), 1) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "the program is not the same on all ranks: rank 1 differs from rank 0"), 1)
      << outcome.output;
}

TEST_F(Mpi, RefusesTasksOfSrunThatDoNotFindEachOther) {
  const Outcome outcome = Shell("SLURM_STEP_NUM_TASKS=4 " MPI_RANKS_BINARY " describe");
  EXPECT_EQ(outcome.code, 2) << outcome.output;
  EXPECT_EQ(Count(outcome.output, "srun --mpi=pmix"), 1) << outcome.output;
}

TEST_F(Mpi, OneRankStaysAlone) {
  const Outcome outcome = Shell("mpirun -n 1 " MPI_RANKS_BINARY " describe");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(Count(outcome.output, ": 1 rank on "), 1) << outcome.output;
}

}  // namespace
}  // namespace conclave::parallel::test
