// SPDX-License-Identifier: Apache-2.0
#include "launch/ranks.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "data/load_options.h"
#include "tests/support/run_ranks.h"

namespace conclave::launch {
namespace {

using parallel::Comm;
using parallel::Job;
using parallel::test::RunRanks;

TEST(Ranks, AllHaveWhatTheFirstMakes) {
  std::atomic<int> makers = 0;
  RunRanks(3, [&makers](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    const absl::StatusOr<std::string> made = FromFirst(*job, [&]() -> absl::StatusOr<std::string> {
      ++makers;
      return "made by " + std::to_string(world.rank());
    });
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(*made, "made by 0");
  });
  EXPECT_EQ(makers, 1);
}

TEST(Ranks, AnErrorOfTheFirstIsOneOfAllAndReportedOnce) {
  RunRanks(3, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    const absl::Status acted = OnFirst(*job, [] { return absl::DataLossError("torn"); });
    const absl::Status made =
        FromFirst(*job, []() -> absl::StatusOr<std::string> { return absl::DataLossError("torn"); }).status();
    for (const absl::Status& status : {acted, made}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(parallel::IsReported(status), world.rank() > 0);
    }
    EXPECT_TRUE(OnFirst(*job, [] { return absl::OkStatus(); }).ok());
  });
}

TEST(Ranks, AgreeOnTheGreatestValue) {
  RunRanks(3, [](Comm& world) {
    const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
    EXPECT_EQ(MaxOverRanks(*job, world.rank() == 1 ? 7 : -world.rank()), 7);
  });
}

TEST(Ranks, ShareTheProcessorsThatTheyAllMayUse) {
  const int processors = data::NumThreads({.threads = 0});
  for (const int ranks : {1, 2, 3}) {
    RunRanks(ranks, [&](Comm& world) {
      const std::unique_ptr<Job> job = Job::OnThreads(world.Split(0, "world"));
      EXPECT_EQ(ThreadsOfRank(*job, 5), 5);
      EXPECT_EQ(ThreadsOfRank(*job, 0), ranks == 1 ? 0 : std::max(processors / ranks, 1));
    });
  }
}

}  // namespace
}  // namespace conclave::launch
