// SPDX-License-Identifier: Apache-2.0
// On threads; mpi_test does it with processes.
#include "parallel/job.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"

#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(Job, IsAloneWithoutALauncher) {
  const absl::StatusOr<std::unique_ptr<Job>> job = Job::Start();
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ((*job)->world().size(), 1);
  EXPECT_EQ((*job)->Describe(), "1 rank on " + (*job)->host());
  EXPECT_EQ((*job)->WhoIsThis(), "rank 0 on " + (*job)->host());
  const absl::Status error = absl::NotFoundError("x");
  EXPECT_EQ((*job)->AgreeOn(error), error);  // nothing is said of ranks
  EXPECT_TRUE((*job)->CheckSame("the config", "text").ok());
  (*job)->End(error);
}

TEST(Job, KnowsRanksAndHosts) {
  RunRanks(3, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    EXPECT_EQ(job->local_rank(), world.rank());
    EXPECT_EQ(job->local_size(), 3);
    EXPECT_EQ(job->ranks_per_host(), 3);
    EXPECT_EQ(job->Describe(), absl::StrFormat("3 ranks on 1 host (%s: 0-2)", job->host()));
    job->SetPlace("pipeline 1");
    EXPECT_EQ(job->WhoIsThis(), absl::StrFormat("rank %d on %s (pipeline 1)", world.rank(), job->host()));
  });
}

TEST(Job, AgreesOnTheErrorOfTheLowestRank) {
  RunRanks(4, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    EXPECT_TRUE(job->AgreeOn(absl::OkStatus()).ok());
    absl::Status status;
    if (world.rank() == 3) status = absl::InternalError("later");
    if (world.rank() == 1) {
      status = absl::ResourceExhaustedError("disk full");
      status.SetPayload("kind", absl::Cord("usage"));
    }
    const absl::Status agreed = job->AgreeOn(status);
    EXPECT_EQ(agreed.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(agreed.GetPayload("kind"), absl::Cord("usage"));
    EXPECT_EQ(IsReported(agreed), world.rank() != 1);
    EXPECT_EQ(MessageOf(agreed), world.rank() == 1 ? absl::StrFormat("rank 1 on %s: disk full", job->host())
                                                   : std::string("rank 1 failed"));
    job->End(agreed);  // returns: all have it
    EXPECT_TRUE(job->AgreeOn(absl::OkStatus()).ok());
  });
}

// An error that has been agreed on and comes to a second agreement is still printed once.
TEST(Job, AgreesOnAnErrorAgain) {
  RunRanks(2, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    const absl::Status first = job->AgreeOn(world.rank() == 1 ? absl::InternalError("x") : absl::OkStatus());
    const absl::Status second = job->AgreeOn(first);
    EXPECT_EQ(second, first);
  });
}

TEST(Job, TellsTheFirstLineInWhichTextsDiffer) {
  RunRanks(4, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    EXPECT_TRUE(job->CheckSame("the config", "a: 1\nb: 2\n").ok());
    const bool differs = world.rank() == 1 || world.rank() == 3;
    const absl::Status status = job->CheckSame("the config", differs ? "a: 1\nb: 3\nc: 1\n" : "a: 1\nb: 2\n");
    EXPECT_EQ(IsReported(status), world.rank() != 0);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    if (world.rank() == 0) {
      EXPECT_EQ(
          MessageOf(status),
          absl::StrFormat("rank 0 on %s: the config is not the same on all ranks: ranks 1, 3 differ from rank 0; on "
                          "rank 1 (%s) line 2 is `b: 3`, on rank 0 `b: 2`. Start all ranks with the same files and "
                          "options",
                          job->host(), job->host()));
    }
    const absl::Status longer = job->CheckSame("x", world.rank() == 1 ? "a\nb" : "a");
    if (world.rank() == 0) {
      EXPECT_NE(MessageOf(longer).find("line 2 is `b`, on rank 0 missing"), std::string::npos) << longer;
    }
  });
}

TEST(JobDeathTest, AnErrorNotAgreedOnEndsAllRanks) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunRanks(2,
                        [](Comm& world) {
                          const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
                          if (world.rank() == 1) job->End(absl::NotFoundError("no such file"));
                          job->world().Barrier();
                        }),
               "no such file");
}

}  // namespace
}  // namespace conclave::parallel::test
