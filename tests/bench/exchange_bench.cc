// SPDX-License-Identifier: Apache-2.0
// How near an exchange of tokens between two ranks, as threads, comes to copying memory.
//
// What must move: a dispatch packs a copy of each token for each rank, sends it, and sorts the rows by expert; a return
// packs the rows, and sends them. Each time a row is read once and written once: with C copies and R routed rows of a
// rank, 2 C + 3 R rows. That is compared with memcpy of as many bytes, in five pieces of those sizes, by as many
// threads at the same time. Counts, ids, weights and permutations are the overhead that is measured.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/device/device.h"
#include "parallel/expert_exchange.h"
#include "parallel/thread_comm.h"

namespace conclave::parallel {
namespace {

using core::DType;
using core::Tensor;

constexpr int kRanks = 2, kRepeats = 15;
constexpr int64_t kRows = 4, kLength = 1024, kTokens = kRows * kLength, kHidden = 1024, kExperts = 16, kTopK = 4;

double Seconds(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double Median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

// Memory of one rank's device.
class Memory {
 public:
  explicit Memory(core::Device& device) : device_(device) {}
  char* Bytes(int64_t bytes) {
    auto buffer = device_.Allocate(bytes, "bench");
    CHECK(buffer.ok());
    buffers_.push_back(std::move(*buffer));
    return static_cast<char*>(buffers_.back()->data());
  }

 private:
  core::Device& device_;
  std::vector<std::unique_ptr<core::DeviceBuffer>> buffers_;
};

// Distinct ascending experts of each token.
void DrawExperts(uint64_t key, Tensor experts) {
  for (int64_t t = 0; t < kTokens; ++t) {
    int32_t* const chosen = experts.As<int32_t>() + t * kTopK;
    int64_t count = 0;
    for (uint32_t i = 0; count < kTopK; ++i) {
      const int32_t expert = static_cast<int32_t>(core::Philox(key, t, i)[0] % kExperts);
      if (std::find(chosen, chosen + count, expert) == chosen + count) chosen[count++] = expert;
    }
    std::sort(chosen, chosen + kTopK);
  }
}

struct Times {
  double exchange = 0, copy = 0;
  int64_t bytes = 0;
};

Times RunRank(Comm& comm) {
  auto device = core::CreateDevice({.name = "cpu", .num_threads = 1});
  CHECK(device.ok());
  const auto stream = (*device)->CreateStream();
  const auto kernels = (*device)->CreateKernels(*stream);
  Memory memory(**device);
  const Tensor experts(memory.Bytes(kTokens * kTopK * 4), DType::kI32, {kTokens, kTopK});
  const Tensor x(memory.Bytes(kTokens * kHidden * 4), DType::kF32, {kTokens, kHidden});
  const Tensor weights(memory.Bytes(kTokens * kTopK * 4), DType::kF32, {kTokens, kTopK});
  const Tensor row_offsets(memory.Bytes((kRows + 1) * 4), DType::kI32, {kRows + 1});
  DrawExperts(static_cast<uint64_t>(comm.rank()), experts);
  for (int64_t row = 0; row <= kRows; ++row) row_offsets.As<int32_t>()[row] = static_cast<int32_t>(row * kLength);

  const auto exchange =
      MakeExpertExchange({.first = &comm}, MakeContiguousPlacement(kExperts, kRanks), ReturnedRows::kEachChoice, 0);
  core::StagePass pass;
  pass.rows = kRows;
  pass.length = kLength;
  pass.row_offsets = row_offsets;
  pass.group_rows.assign(kRanks, kRows);
  pass.exchange_rows.resize(1);
  core::Arena scratch("scratch");
  constexpr int64_t kArenaBytes = int64_t{320} << 20, kScratchBytes = int64_t{1} << 24;
  pass.until_block_end.Attach(memory.Bytes(kArenaBytes), kArenaBytes);
  scratch.Attach(memory.Bytes(kScratchBytes), kScratchBytes);
  core::Lane lane{*kernels, scratch, **device, *stream};
  core::RoutedTokens routed;
  const auto run_exchange = [&] {
    exchange->BeginCounts(lane, pass, experts, routed);
    exchange->BeginDispatch(lane, pass, x, weights, routed);
    exchange->EndDispatch(lane, pass, routed);
    exchange->BeginReturn(lane, pass, routed.x, {}, routed);
    exchange->EndReturn(lane, pass, routed);
    comm.Barrier();
  };
  run_exchange();  // sizes become known, memory is touched
  const core::ExchangeRows& rows = pass.exchange_rows[0];
  const int64_t row_bytes = kHidden * 4;
  const int64_t pieces[] = {rows.sent[0], rows.received[0], rows.routed, rows.routed, rows.returned[0]};
  const int64_t most = *std::max_element(std::begin(pieces), std::end(pieces)) * row_bytes;
  char* const from = memory.Bytes(most);
  char* const to = memory.Bytes(most);
  const auto run_copy = [&] {
    for (int64_t piece : pieces) std::memcpy(to, from, static_cast<size_t>(piece * row_bytes));
    comm.Barrier();
  };
  std::vector<double> exchange_seconds, copy_seconds;
  for (int i = 0; i < kRepeats; ++i) {  // in turns: what else the machine does slows both
    pass.Reset();
    comm.Barrier();
    exchange_seconds.push_back(Seconds(run_exchange));
    copy_seconds.push_back(Seconds(run_copy));
  }
  Times times{.exchange = Median(exchange_seconds), .copy = Median(copy_seconds)};
  for (int64_t piece : pieces) times.bytes += piece * row_bytes;
  return times;
}

}  // namespace
}  // namespace conclave::parallel

int main() {
  using namespace conclave::parallel;
  auto comms = MakeThreadComms(kRanks);
  std::vector<Times> times(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] { times[rank] = RunRank(*comms[rank]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int rank = 0; rank < kRanks; ++rank) {
    const Times& t = times[rank];
    std::printf("rank %d: %.0f MB moved; exchange %.1f ms, %.2f GB/s; memcpy %.1f ms, %.2f GB/s; %.0f %%\n", rank,
                static_cast<double>(t.bytes) * 1e-6, t.exchange * 1e3, static_cast<double>(t.bytes) / t.exchange * 1e-9,
                t.copy * 1e3, static_cast<double>(t.bytes) / t.copy * 1e-9, 100 * t.copy / t.exchange);
  }
}
