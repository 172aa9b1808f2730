// SPDX-License-Identifier: Apache-2.0
#include "parallel/delay_comm.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "tests/parallel/comm_cases.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

double SecondsOf(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(DelayComm, DoesWhatEveryCommDoes) {
  RunRanks(3, [](Comm& world) {
    const std::unique_ptr<Comm> slow = MakeDelayComm(world.Split(0, "world"), {.seconds_per_operation = 1e-5});
    for (const CommCase& comm_case : CommCases()) {
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, comm_case.name);
      comm_case.run(*slow);
    }
  });
}

TEST(DelayComm, EndsNoEarlierThanItsTimeAfterTheBegin) {
  RunRanks(2, [](Comm& world) {
    Stream stream;
    const std::unique_ptr<Comm> slow = MakeDelayComm(world.Split(0, "world"), {0.02, 1e-5});
    std::vector<int64_t> x(500);
    const Tensor tensor(x.data(), DType::kI64, {500});  // 4,000 bytes; half of them go each way, twice: 40 ms
    Ticket ticket;
    EXPECT_LT(SecondsOf([&] { ticket = slow->AllReduce(stream, tensor, Reduction::kSum); }), 0.02);
    EXPECT_GE(SecondsOf([&] { slow->Wait(stream, ticket); }), 0.055);
    EXPECT_GE(SecondsOf([&] { slow->Barrier(); }), 0.0199);
    const std::unique_ptr<Comm> part = slow->Split(0, "part");
    EXPECT_GE(SecondsOf([&] { part->Barrier(); }), 0.0199);
  });
}

TEST(DelayComm, DelaysOneGroupAndWhatIsSplitOffFromIt) {
  RunRanks(2, [](Comm& world) {
    const Delay delay{.seconds_per_operation = 0.02, .group = "slow"};
    const std::unique_ptr<Comm> all = MakeDelayComm(world.Split(0, "world"), delay);
    const std::unique_ptr<Comm> slow = all->Split(0, "slow"), part = slow->Split(0, "part");
    EXPECT_GE(SecondsOf([&] { slow->Barrier(); }), 0.0199);
    EXPECT_GE(SecondsOf([&] { part->Barrier(); }), 0.0199);
    // Delayed, they would take 0.4 s; other programs may take the processor for some of them.
    EXPECT_LT(SecondsOf([&] {
                for (int i = 0; i < 20; ++i) all->Barrier();
              }),
              0.2);
  });
}

TEST(DelayComm, HidesBehindWhatRunsMeanwhile) {
  RunRanks(2, [](Comm& world) {
    Stream stream;
    const std::unique_ptr<Comm> slow = MakeDelayComm(world.Split(0, "world"), {.seconds_per_operation = 0.05});
    int64_t x = 1, y = 1;
    const Ticket first = slow->AllReduce(stream, Tensor(&x, DType::kI64, {1}), Reduction::kSum);
    const Ticket second = slow->AllReduce(stream, Tensor(&y, DType::kI64, {1}), Reduction::kSum);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    EXPECT_LT(SecondsOf([&] {
                slow->Wait(stream, first);
                slow->Wait(stream, second);
              }),
              0.05);
    EXPECT_EQ(x + y, 4);
  });
}

}  // namespace
}  // namespace conclave::parallel::test
