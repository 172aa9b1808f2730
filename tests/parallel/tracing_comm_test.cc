// SPDX-License-Identifier: Apache-2.0
#include "parallel/tracing_comm.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/parallel/comm_cases.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;
using core::TraceLane;

TEST(TracingComm, DoesWhatEveryCommDoes) {
  RunRanks(3, [](Comm& world) {
    core::Trace trace(100000);
    const std::unique_ptr<Comm> traced = MakeTracingComm(world.Split(0, "world"), trace);
    for (const CommCase& comm_case : CommCases()) {
      const ::testing::ScopedTrace where(__FILE__, __LINE__, comm_case.name);
      comm_case.run(*traced);
    }
    EXPECT_GT(trace.spans().size(), 0u);
    EXPECT_EQ(trace.num_dropped(), 0);
  });
}

TEST(TracingComm, RecordsAnExchangeFromItsBeginAndAWaitFromWait) {
  RunRanks(2, [](Comm& world) {
    core::Trace trace(10);
    const std::unique_ptr<Comm> part = MakeTracingComm(world.Split(0, "world"), trace)->Split(0, "part");
    Stream stream;
    std::vector<int64_t> x(6);
    const Tensor tensor(x.data(), DType::kI64, {6});
    Ticket ticket;
    {
      const core::TraceAt at(&trace, {4, 2});
      ticket = world.rank() == 0 ? part->Send(stream, tensor, 1, 7) : part->Receive(stream, tensor, 0, 7);
    }
    const int64_t before_wait = trace.Now();
    part->Wait(stream, ticket);
    ASSERT_EQ(trace.spans().size(), 2u);
    const core::TraceSpan &wait = trace.spans()[0], &exchange = trace.spans()[1];
    EXPECT_EQ(wait.lane, TraceLane::kWait);
    EXPECT_EQ(exchange.lane, TraceLane::kExchange);
    EXPECT_EQ(std::string(exchange.name), world.rank() == 0 ? "part Send" : "part Receive");
    EXPECT_LE(exchange.begin, before_wait);
    EXPECT_LE(before_wait, wait.begin);
    EXPECT_EQ(wait.end, exchange.end);
    EXPECT_EQ(exchange.bytes, 48);
    EXPECT_EQ(exchange.place.stage, 4);
    EXPECT_EQ(exchange.place.micro, 2);
  });
}

}  // namespace
}  // namespace conclave::parallel::test
