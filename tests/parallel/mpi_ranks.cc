// SPDX-License-Identifier: Apache-2.0
// mpi_ranks SCENARIO: what mpi_test starts under mpirun. Each scenario is what one rank of a job does; those that fail
// leave the other ranks waiting in a barrier.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "parallel/job.h"
#include "parallel/mesh.h"
#include "tests/parallel/comm_cases.h"
#include "tests/parallel/moe_on_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

// The world of this process, for tests that gtest calls.
Comm*& World() {
  static Comm* world = nullptr;
  return world;
}

TEST(MpiComm, DoesWhatEveryCommDoes) {
  for (const CommCase& comm_case : CommCases()) {
    const ::testing::ScopedTrace trace(__FILE__, __LINE__,
                                       absl::StrFormat("%s on rank %d", comm_case.name, World()->rank()));
    comm_case.run(*World());
  }
}

TEST(MpiComm, SplitsByMesh) {
  const absl::StatusOr<Mesh> mesh = Mesh::Create({.pipeline = 1, .expert = 4}, World()->size());
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  const MeshComms comms = SplitByMesh(*World(), *mesh, 2);
  ASSERT_NE(comms.expert_inter, nullptr);
  EXPECT_EQ(comms.expert_inter->size(), 2);
  EXPECT_EQ(comms.expert_inter->rank(), World()->rank() / 2);
  EXPECT_EQ(comms.expert_intra->rank(), World()->rank() % 2);
}

// Each rank compares its rows, and the sums over all ranks, with what it computes alone.
TEST(MpiExpertExchange, GivesTheBitsOfOneRankInOneHopAndInTwo) {
  Comm& world = *World();
  const MoeProblem problem;
  const std::vector<int64_t> rank_rows(world.size(), problem.rows / world.size());
  const MoeResult alone = RunMoeAlone(problem);
  const auto inter = world.Split(world.rank() % 2, "expert_inter"),
             intra = world.Split(world.rank() / 2, "expert_intra");
  for (const ExpertAxis& axis : {ExpertAxis{&world}, ExpertAxis{inter.get(), intra.get()}}) {
    auto exchange =
        MakeExpertExchange(axis, MakeContiguousPlacement(problem.experts, world.size()), ReturnedRows::kEachChoice, 0);
    const int64_t rows = rank_rows[0], begin = world.rank() * rows;
    MoeOfRank moe(problem, std::move(exchange), begin, rows, rank_rows);
    moe.Run();
    const MoeResult own = moe.Result();
    const size_t bytes = own.y.size(), first = world.rank() * bytes;
    EXPECT_TRUE(std::equal(own.y.begin(), own.y.end(), alone.y.begin() + first));
    EXPECT_TRUE(std::equal(own.dx.begin(), own.dx.end(), alone.dx.begin() + first));
    for (const auto& [name, sum] : alone.sums) {
      std::vector<int64_t> total(sum.size(), 0);
      if (const auto found = own.sums.find(name); found != own.sums.end()) total = found->second;
      Stream stream;
      const Tensor tensor(total.data(), DType::kI64, {static_cast<int64_t>(total.size())});
      world.Wait(stream, world.AllReduce(stream, tensor, Reduction::kSum));
      EXPECT_EQ(total, sum) << name;
    }
  }
}

int RunLaws(Job& job) {
  World() = &job.world();
  if (job.world().rank() != 0) {  // failures of others still end the job with a code
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  const int result = RUN_ALL_TESTS();
  const absl::Status agreed = job.AgreeOn(result == 0 ? absl::OkStatus() : absl::InternalError("laws do not hold"));
  if (!agreed.ok() && !IsReported(agreed)) core::LogError(std::string(agreed.message()));
  return agreed.ok() ? 0 : 1;
}

void Message(Comm& world, int64_t rows_sent, int64_t rows_received) {
  Stream stream;
  int64_t x[8] = {};
  if (world.rank() == 0) world.Wait(stream, world.Send(stream, Tensor(x, DType::kI64, {rows_sent}), 1, 5));
  if (world.rank() == 1) world.Wait(stream, world.Receive(stream, Tensor(x, DType::kI64, {rows_received}), 0, 5));
}

// What a rank does that fails; the others wait.
void Fail(std::string_view scenario, Job& job) {
  Comm& world = job.world();
  job.SetPlace("data " + std::to_string(world.rank()));
  const bool here = world.rank() == 1;
  if (scenario == "check" && here) CHECK_EQ(world.rank(), 7);
  if (scenario == "check-in-thread" && here) std::thread([] { CHECK(1 + 1 == 3); }).detach();
  if (scenario == "exit" && here) std::exit(3);
  if (scenario == "exit-in-success" && here) std::exit(0);
  if (scenario == "kill" && here) std::raise(SIGKILL);
  if (scenario == "error" && here) job.End(absl::NotFoundError("x.jsonl: no such file"));
  if (scenario == "short-message") Message(world, 2, 3);
  if (scenario == "long-message") Message(world, 3, 2);
  world.Barrier();
  if (here || scenario.ends_with("message")) world.Barrier();
}

int Agree(Job& job, const absl::Status& status) {
  core::LogInfo(absl::StrFormat("%d: %s, %s", job.world().rank(), IsReported(status) ? "reported" : "new",
                                std::string(status.ToString())));
  job.End(status);
  return status.ok() ? 0 : 1;
}

int Main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  CHECK_EQ(argc, 2);
  const std::string_view scenario = argv[1];
  absl::StatusOr<std::unique_ptr<Job>> started = Job::Start();
  if (!started.ok()) {
    if (!IsReported(started.status())) core::LogError(std::string(started.status().message()));
    return 2;
  }
  Job& job = **started;
  const int rank = job.world().rank();
  if (scenario == "laws") return RunLaws(job);
  if (scenario == "describe") {
    core::LogInfo(absl::StrFormat("%s: %s; local rank %d of %d; %d to a host", job.WhoIsThis(), job.Describe(),
                                  job.local_rank(), job.local_size(), job.ranks_per_host()));
    return 0;
  }
  if (scenario == "agree") {
    return Agree(job, job.AgreeOn(rank % 2 == 0 ? absl::OkStatus()
                                                : absl::DataLossError(absl::StrFormat("disk %d is full", rank))));
  }
  if (scenario == "other-text") {
    return Agree(job, job.CheckSame("the config", rank < 2 ? "model:\n  layers: 2\n" : "model:\n  layers: 3\n"));
  }
  Fail(scenario, job);
  return 0;
}

}  // namespace
}  // namespace conclave::parallel::test

int main(int argc, char** argv) { return conclave::parallel::test::Main(argc, argv); }
