// SPDX-License-Identifier: Apache-2.0
#include "parallel/comm.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <tuple>
#include <vector>

#include "tests/parallel/comm_cases.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

class CommOfThreads : public ::testing::TestWithParam<std::tuple<int, CommCase>> {};

TEST_P(CommOfThreads, Does) { RunRanks(std::get<0>(GetParam()), std::get<1>(GetParam()).run); }

INSTANTIATE_TEST_SUITE_P(Ranks, CommOfThreads,
                         ::testing::Combine(::testing::Values(1, 2, 3, 5, 8),
                                            ::testing::ValuesIn(CommCases().begin(), CommCases().end())),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "On" +
                                  std::to_string(std::get<0>(info.param));
                         });

TEST(SelfComm, DoesWhatEveryCommDoes) {
  for (const CommCase& comm_case : CommCases()) {
    const ::testing::ScopedTrace trace(__FILE__, __LINE__, comm_case.name);
    comm_case.run(*MakeSelfComm());
  }
}

using CommDeathTest = ::testing::Test;

TEST(CommDeathTest, TellsWhoseMessageHasAnotherSize) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      RunRanks(2,
               [](Comm& comm) {
                 Stream stream;
                 int64_t x[3] = {};
                 const Tensor two(x, DType::kI64, {2}), three(x, DType::kI64, {3});
                 comm.Wait(stream, comm.rank() == 0 ? comm.Send(stream, two, 1, 0) : comm.Receive(stream, three, 0, 0));
               }),
      "communicator world, rank [01] of 2: Send and Receive: rank 0 sends 16 bytes to rank 1, which expects 24");
}

TEST(CommDeathTest, TellsThatRanksHaveBegunOtherOperations) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunRanks(2,
                        [](Comm& comm) {
                          Stream stream;
                          int64_t x[1] = {};
                          const Tensor one(x, DType::kI64, {1});
                          comm.Barrier();
                          comm.Wait(stream, comm.rank() == 0 ? comm.Broadcast(stream, one, 0)
                                                             : comm.AllReduce(stream, one, Reduction::kSum));
                        }),
               "as operation 1, while another rank has begun (AllReduce|Broadcast)");
}

TEST(CommDeathTest, RefusesToWaitTwice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Stream stream;
        const std::unique_ptr<Comm> comm = MakeSelfComm();
        const Ticket ticket = comm->AllReduce(stream, Tensor(), Reduction::kSum);
        comm->Wait(stream, ticket);
        comm->Wait(stream, ticket);
      },
      "CHECK failed");
}

TEST(RunRanks, EndsTheProgramWhenARankLeavesTheOthersWaiting) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto leave_early = [] {
    const auto rank_1_leaves = [](Comm& comm) {
      ASSERT_EQ(comm.rank(), 0) << "a failure of the test inside the test";
      comm.Barrier();
    };
    RunRanks(2, rank_1_leaves, std::chrono::seconds(1));
  };
  EXPECT_EXIT(leave_early(), ::testing::ExitedWithCode(1), "rank 0 still runs\nrank 1 has returned\nRunRanks");
}

}  // namespace
}  // namespace conclave::parallel::test
