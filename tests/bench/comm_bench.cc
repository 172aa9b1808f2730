// SPDX-License-Identifier: Apache-2.0
// comm_bench [ranks]: what moving rows between ranks that are threads costs, against one memcpy of the same bytes on
// each thread at once. All-to-all of 4,096 rows of 1,024 floats per rank, and sums of as many bytes; the fastest of 51
// rounds, because what other programs take meanwhile is not ours.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

#include "parallel/thread_comm.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

constexpr int64_t kRows = 4096, kWidth = 1024;
constexpr int kRounds = 51;

// Of `body`, which all ranks run at once.
double FastestSeconds(Comm& comm, const std::function<void()>& body) {
  double fastest = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    comm.Barrier();
    const auto begin = std::chrono::steady_clock::now();
    body();
    comm.Barrier();
    fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return fastest;
}

void Benchmark(Comm& comm) {
  Stream stream;
  std::vector<float> send(kRows * kWidth, 1), receive(kRows * kWidth, 2);
  std::vector<int64_t> sums(kRows * kWidth / 2, 3), offsets(comm.size() + 1);
  for (int r = 0; r <= comm.size(); ++r) offsets[r] = kRows * r / comm.size();
  const Tensor source(send.data(), DType::kF32, {kRows, kWidth}), target(receive.data(), DType::kF32, {kRows, kWidth});
  const Tensor gradients(sums.data(), DType::kI64, {kRows, kWidth / 2});
  const double bytes = static_cast<double>(source.Bytes()) * comm.size();  // of all ranks
  const double copy = FastestSeconds(comm, [&] { std::memcpy(receive.data(), send.data(), source.Bytes()); });
  const auto report = [&](const char* what, double seconds) {
    if (comm.rank() > 0) return;
    absl::PrintF("%-26s %8.0f us %6.1f GB/s %5.0f %% of memcpy\n", what, 1e6 * seconds, 1e-9 * bytes / seconds,
                 100 * copy / seconds);
  };
  report("memcpy", copy);
  report("all-to-all",
         FastestSeconds(comm, [&] { comm.Wait(stream, comm.AllToAll(stream, source, offsets, target, offsets)); }));
  report("reduce-scatter",
         FastestSeconds(comm, [&] { comm.Wait(stream, comm.ReduceScatter(stream, gradients, offsets)); }));
  report("all-gather", FastestSeconds(comm, [&] { comm.Wait(stream, comm.AllGather(stream, gradients, offsets)); }));
  report("all-reduce",
         FastestSeconds(comm, [&] { comm.Wait(stream, comm.AllReduce(stream, gradients, Reduction::kSum)); }));
  const std::vector<int64_t> nothing(comm.size() + 1, 0);
  const double empty =
      FastestSeconds(comm, [&] { comm.Wait(stream, comm.AllToAll(stream, Tensor(), nothing, Tensor(), nothing)); });
  if (comm.rank() == 0) absl::PrintF("%-26s %8.0f us, a barrier included\n", "all-to-all of nothing", 1e6 * empty);
}

int Main(int argc, char** argv) {
  int num_ranks = 2;
  if (argc > 2 || (argc == 2 && (!absl::SimpleAtoi(argv[1], &num_ranks) || num_ranks < 1))) {
    std::fputs("usage: comm_bench [ranks]\n", stderr);
    return 2;
  }
  std::vector<std::unique_ptr<Comm>> comms = MakeThreadComms(num_ranks);
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Comm>& comm : comms) threads.emplace_back([&] { Benchmark(*comm); });
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace
}  // namespace conclave::parallel::test

int main(int argc, char** argv) { return conclave::parallel::test::Main(argc, argv); }
