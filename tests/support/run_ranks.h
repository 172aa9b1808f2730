// SPDX-License-Identifier: Apache-2.0
// Runs a function on n ranks, as threads of the test.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "parallel/comm.h"
#include "parallel/thread_comm.h"

namespace conclave::parallel::test {

// Calls fn(world) on n threads and returns when all are done; failures name their rank. A rank that leaves early, say
// by a failed ASSERT, leaves its peers waiting for ever: if some still run `patience` after the first has returned, the
// test program says so and ends.
inline void RunRanks(int n, const std::function<void(Comm&)>& fn,
                     std::chrono::seconds patience = std::chrono::seconds(30)) {
  std::vector<std::unique_ptr<Comm>> comms = MakeThreadComms(n);
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> done(n);
  int num_done = 0;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < n; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const ::testing::ScopedTrace trace(__FILE__, __LINE__, "rank " + std::to_string(rank));
        fn(*comms[rank]);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << " threw: " << error.what();
      }
      const std::lock_guard lock(mutex);
      done[rank] = true;
      ++num_done;
      changed.notify_all();
    });
  }
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return num_done > 0; });
    if (!changed.wait_for(lock, patience, [&] { return num_done == n; })) {
      for (int rank = 0; rank < n; ++rank) {
        std::fprintf(stderr, "rank %d %s\n", rank, done[rank] ? "has returned" : "still runs");
      }
      std::fprintf(stderr, "RunRanks: ranks wait for one that has left; the test program ends here\n");
      std::_Exit(1);
    }
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace conclave::parallel::test
