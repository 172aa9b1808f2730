// SPDX-License-Identifier: Apache-2.0
// Neither communication nor an exchange of tokens allocates in a steady step: this program's operator new counts.
#include <gtest/gtest.h>

#include <vector>

#include "tests/parallel/moe_on_ranks.h"
#include "tests/support/count_allocations.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

// One of each operation, all in flight at once.
class Step {
 public:
  explicit Step(Comm& comm) : comm_(comm), x_(7 * comm.size()), y_(x_), offsets_(comm.size() + 1) {
    for (int r = 0; r <= comm.size(); ++r) offsets_[r] = r;
  }

  void Run() {
    const int64_t n = comm_.size();
    const int next = (comm_.rank() + 1) % comm_.size(), previous = (comm_.rank() + comm_.size() - 1) % comm_.size();
    const auto part = [&](std::vector<int64_t>& of, int64_t which) {
      return Tensor(of.data() + which * n, DType::kI64, {n, 1});
    };
    const Ticket tickets[] = {
        comm_.AllToAll(stream_, part(x_, 0), offsets_, part(y_, 0), offsets_),
        comm_.AllGather(stream_, part(x_, 1), offsets_),
        comm_.ReduceScatter(stream_, part(x_, 2), offsets_),
        comm_.AllReduce(stream_, part(x_, 3), Reduction::kSum),
        comm_.Broadcast(stream_, part(x_, 4), 0),
        comm_.Send(stream_, part(x_, 5), next, 1),
        comm_.Receive(stream_, part(y_, 5), previous, 1),
        comm_.AllReduce(stream_, part(x_, 6), Reduction::kMax),
    };
    for (const Ticket ticket : tickets) comm_.Wait(stream_, ticket);
  }

 private:
  Comm& comm_;
  Stream stream_;
  std::vector<int64_t> x_, y_, offsets_;
};

TEST(Comm, AllocatesNothingInASteadyStep) {
  RunRanks(3, [](Comm& world) {
    Step step(world);
    for (int i = 0; i < 50; ++i) step.Run();  // no rank is more than a step ahead; how far each gets, chance decides
    world.Barrier();
    const int64_t before = allocations.load();
    world.Barrier();
    for (int i = 0; i < 100; ++i) step.Run();
    world.Barrier();
    EXPECT_EQ(allocations.load() - before, 0);
    world.Barrier();
  });
}

TEST(ExpertExchange, AllocatesNothingInASteadyStep) {
  RunRanks(4, [](Comm& world) {
    const auto first = world.Split(world.rank() % 2, "expert_inter");
    const auto second = world.Split(world.rank() / 2, "expert_intra");
    auto exchange =
        MakeExpertExchange({first.get(), second.get()}, MakeContiguousPlacement(7, 4), ReturnedRows::kEachChoice, 0);
    MoeOfRank moe({}, std::move(exchange), 2 * world.rank(), 2, {2, 2, 2, 2});
    for (int i = 0; i < 50; ++i) moe.Run();
    world.Barrier();
    const int64_t before = allocations.load();
    world.Barrier();
    for (int i = 0; i < 50; ++i) moe.Run();
    world.Barrier();
    EXPECT_EQ(allocations.load() - before, 0);
    world.Barrier();
  });
}

}  // namespace
}  // namespace conclave::parallel::test
