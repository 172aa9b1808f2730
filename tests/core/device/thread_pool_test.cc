// SPDX-License-Identifier: Apache-2.0
#include "core/device/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace conclave::core {
namespace {

TEST(ThreadPool, RunsEveryItemOnceInChunksOfTheGrain) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int64_t items : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(items);
        std::atomic<bool> in_bounds{true};
        pool.ParallelFor(items, grain, [&](int64_t begin, int64_t end, int thread) {
          if (begin >= end || end - begin > grain || thread < 0 || thread >= threads) in_bounds = false;
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_TRUE(in_bounds);
        EXPECT_TRUE(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; }))
            << threads << " threads, " << items << " items, grain " << grain;
      }
    }
  }
}

TEST(ThreadPool, SeesAllWritesOfTheCallAndOfTheCallers) {
  ThreadPool pool(4);
  std::vector<int64_t> values(257, 0);  // plain memory: a missing hand-over shows here and under the thread sanitizer
  for (int64_t call = 1; call <= 3000; ++call) {
    const int64_t step = call;  // dead after the call: a straggler would read a wrong one
    pool.ParallelFor(static_cast<int64_t>(values.size()), 1 + call % 50, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[i] += step;
    });
    ASSERT_EQ(values[call % 257], call * (call + 1) / 2);
  }
  for (int64_t value : values) EXPECT_EQ(value, 3000 * 3001 / 2);
}

TEST(ThreadPool, WakesUpAfterSleeping) {
  ThreadPool pool(3);
  for (int call = 0; call < 20; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // far beyond the spinning
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(100, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
    ASSERT_EQ(sum, 4950);
  }
}

TEST(ThreadPool, EveryThreadTakesPart) {
  ThreadPool pool(3);
  std::atomic<int> present{0};
  pool.ParallelFor(3, 1, [&](int64_t, int64_t, int) {  // returns only if three threads are inside at once
    ++present;
    while (present < 3) std::this_thread::yield();
  });
  EXPECT_EQ(present, 3);
}

TEST(ThreadPool, ThreadsBeginWithTheirOwnPartOfTheItems) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  std::vector<std::atomic<int64_t>> first(kThreads);
  for (auto& item : first) item = -1;
  std::atomic<int> present{0};
  pool.ParallelFor(30, 2, [&](int64_t begin, int64_t, int thread) {
    if (first[thread] >= 0) return;
    first[thread] = begin;
    ++present;
    while (present < kThreads) std::this_thread::yield();  // nobody helps before all have begun
  });
  for (int thread = 0; thread < kThreads; ++thread) EXPECT_EQ(first[thread], 10 * thread);
}

TEST(ThreadPool, HandsItemsOutInOrderIfAsked) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0}, present{0};
  std::atomic<bool> ascending{true};
  std::vector<int64_t> last(3, -1);
  pool.ParallelForInOrder(300, 7, [&](int64_t begin, int64_t end, int thread) {
    if (last[thread] < 0) {  // the first chunks of all threads are the first of all chunks
      if (begin >= 3 * 7) ascending = false;
      ++present;
      while (present < 3) std::this_thread::yield();
    }
    if (begin <= last[thread]) ascending = false;
    last[thread] = begin;
    sum += end - begin;
  });
  EXPECT_TRUE(ascending);
  EXPECT_EQ(sum, 300);
}

TEST(ThreadPool, StopsWithoutEverWorking) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(4);
}

TEST(ThreadPool, KeepsScratchOfEachThread) {
  ThreadPool pool(2);
  void* small = pool.Scratch(0, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small) % 128, 0u);
  EXPECT_EQ(pool.Scratch(0, 50), small);
  EXPECT_NE(pool.Scratch(1, 100), small);
  void* large = pool.Scratch(0, 100000);
  std::memset(large, 1, 100000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large) % 128, 0u);
  EXPECT_EQ(pool.Scratch(0, 100), large);
}

TEST(ThreadPool, SetsTheFloatingPointModeInEveryThread) {
  ThreadPool pool(3);
  std::thread caller([&] {  // a thread that nobody has prepared
    _mm_setcsr((_mm_getcsr() & ~0x8040u) | 0x6000u);
    std::atomic<int> present{0}, right{0};
    pool.ParallelFor(3, 1, [&](int64_t, int64_t, int) {
      ++present;
      while (present < 3) std::this_thread::yield();
      volatile float tiny = 0x1p-126f, third = 3;
      right += tiny * 0.5f == 0 && 1 / third == 0x1.555556p-2f && (_mm_getcsr() & 0xe040u) == 0x8040u;
    });
    EXPECT_EQ(right, 3);
  });
  caller.join();
}

TEST(ThreadPool, RefusesToNest) {
  EXPECT_DEATH(
      {
        ThreadPool pool(2);
        pool.ParallelFor(2, 1, [&](int64_t, int64_t, int) { pool.ParallelFor(2, 1, [](int64_t, int64_t, int) {}); });
      },
      "CHECK failed");
}

}  // namespace
}  // namespace conclave::core
