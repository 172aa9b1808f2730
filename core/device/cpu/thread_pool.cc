// SPDX-License-Identifier: Apache-2.0
// One job at a time, cut into parts, each of which has a counter of its own. That counter is the whole hand-over:
// whoever counts it down from n > 0 owns a chunk, and by that knows that the job's fields are valid until the chunk is
// reported done. A thread that comes late finds nothing and goes back to sleep; nobody waits for it. Idle threads spin
// for some microseconds, then sleep on a futex (std::atomic::wait).
#include "core/device/cpu/thread_pool.h"

#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <thread>
#include <vector>

#include "core/base/check.h"

namespace conclave::core {
namespace {

constexpr std::align_val_t kScratchAlignment{128};
constexpr std::chrono::microseconds kSpin{20};  // about the cost of a wake-up; more would burn cores that others need

struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete(memory, kScratchAlignment); }
};

struct ScratchBuffer {
  std::unique_ptr<void, AlignedDelete> memory;
  int64_t bytes = 0;
};

template <class Condition>
bool SpinUntil(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return condition();
}

}  // namespace

struct ThreadPool::State {
  // The job: written by the caller while no chunk is open.
  Function function = nullptr;
  void* context = nullptr;
  int64_t items = 0, grain = 0;
  bool running = false;

  // A part of the job: chunks up to `end`, of which the first ones are gone. On a cache line of its own.
  struct alignas(128) Part {
    std::atomic<int64_t> remaining{0};  // may fall below zero
    int64_t end = 0;
  };
  std::vector<Part> parts;  // one for each thread

  // On cache lines of their own, too: each is hit by all threads.
  alignas(128) std::atomic<int32_t> open{0};   // chunks not done
  alignas(128) std::atomic<int32_t> epoch{0};  // changes with each job; what sleepers watch
  std::atomic<bool> stop{false};

  std::vector<ScratchBuffer> scratch;  // of each thread
  std::vector<std::thread> workers;

  void RunChunks(int thread) {
    int32_t done = 0;
    for (size_t i = 0, t = static_cast<size_t>(thread); i < parts.size(); ++i, t = t + 1 < parts.size() ? t + 1 : 0) {
      Part& part = parts[t];
      if (part.remaining.load(std::memory_order_relaxed) <= 0) continue;  // spares others the cache line
      for (int64_t left; (left = part.remaining.fetch_sub(1, std::memory_order_acq_rel)) > 0; ++done) {
        const int64_t begin = (part.end - left) * grain;
        function(context, begin, std::min(begin + grain, items), thread);
      }
    }
    if (done > 0 && open.fetch_sub(done, std::memory_order_acq_rel) == done) open.notify_one();
  }

  void Work(int thread) {
    SetFloatingPointMode();
    for (int32_t seen = 0; !stop.load(std::memory_order_acquire);) {
      RunChunks(thread);
      const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!SpinUntil(changed)) epoch.wait(seen, std::memory_order_acquire);
      seen = epoch.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  CHECK_GE(num_threads, 1);
  state_->scratch.resize(num_threads);
  state_->parts = std::vector<State::Part>(static_cast<size_t>(num_threads));
  for (int thread = 1; thread < num_threads; ++thread) {
    state_->workers.emplace_back([state = state_.get(), thread] { state->Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_acq_rel);
  state_->epoch.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->scratch.size()); }

void ThreadPool::Run(int64_t items, int64_t grain, int parts, Function function, void* context) {
  if (items <= 0) return;
  CHECK_GE(grain, 1);
  State& state = *state_;
  SetFloatingPointMode();  // the caller may be a thread that this program has not set up
  if (items <= grain || state.workers.empty()) {
    for (int64_t begin = 0; begin < items; begin += grain) function(context, begin, std::min(begin + grain, items), 0);
    return;
  }
  CHECK(!state.running);
  state.running = true;
  state.function = function;
  state.context = context;
  state.items = items;
  state.grain = grain;
  const int64_t chunks = (items + grain - 1) / grain;
  CHECK_LE(chunks, INT32_MAX);
  state.open.store(static_cast<int32_t>(chunks), std::memory_order_relaxed);
  for (int t = 0; t < parts; ++t) state.parts[static_cast<size_t>(t)].end = chunks * (t + 1) / parts;
  for (int t = 0; t < parts; ++t) {  // the job's fields are there: from here on chunks are taken
    State::Part& part = state.parts[static_cast<size_t>(t)];
    part.remaining.store(part.end - chunks * t / parts, std::memory_order_release);
  }
  state.epoch.fetch_add(1, std::memory_order_acq_rel);
  state.epoch.notify_all();
  state.RunChunks(0);
  SpinUntil([&] { return state.open.load(std::memory_order_acquire) == 0; });
  for (int32_t open; (open = state.open.load(std::memory_order_acquire)) != 0;) {
    state.open.wait(open, std::memory_order_acquire);
  }
  state.running = false;
}

void* ThreadPool::Scratch(int thread, int64_t bytes) {
  ScratchBuffer& buffer = state_->scratch[thread];
  if (buffer.bytes < bytes) {
    buffer.memory.reset();  // first, so that old and new never stand side by side
    buffer.memory.reset(::operator new(static_cast<size_t>(bytes), kScratchAlignment));
    buffer.bytes = bytes;
  }
  return buffer.memory.get();
}

void SetFloatingPointMode() {
  constexpr unsigned int kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040, kRounding = 0x6000;
  const unsigned int mode = _mm_getcsr(), wanted = (mode & ~kRounding) | kFlushToZero | kDenormalsAreZero;
  if (mode != wanted) _mm_setcsr(wanted);
}

}  // namespace conclave::core
