// SPDX-License-Identifier: Apache-2.0
// The CPU backend's own threads. Work is a range of independent items, handed out in chunks when threads ask for them,
// so a thread that the system suspends holds up at most one chunk. Which thread runs an item never changes a bit.
#pragma once

#include <cstdint>
#include <memory>

namespace conclave::core {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // the caller counts as one: num_threads - 1 are created
  ~ThreadPool();
  int size() const;

  // Runs body(begin, end, thread) over a partition of [0, items) in chunks of at most `grain` items and returns when
  // all are done. thread is in 0..size()-1, for per-thread scratch. Not reentrant. Nothing is allocated. Each thread
  // begins with its own part of the items and helps others when that is done: rows that one operation has written are
  // in the cache of the thread that reads them in the next one.
  template <class Body>
  void ParallelFor(int64_t items, int64_t grain, Body&& body) {
    Run(items, grain, size(), &Call<Body>, &body);
  }
  // Chunks begin in ascending order, on whichever thread: for items of which the smallest come last.
  template <class Body>
  void ParallelForInOrder(int64_t items, int64_t grain, Body&& body) {
    Run(items, grain, 1, &Call<Body>, &body);
  }

  // Scratch of one thread, at least `bytes`, aligned to 128, kept between calls (grows only in the first steps).
  void* Scratch(int thread, int64_t bytes);

 private:
  using Function = void (*)(void* context, int64_t begin, int64_t end, int thread);
  template <class Body>
  static void Call(void* context, int64_t begin, int64_t end, int thread) {
    (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
  }
  // In `parts` parts, one for each of the first threads.
  void Run(int64_t items, int64_t grain, int parts, Function function, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

// Round to nearest, denormals as zeros: the same in every thread that computes (the machine and thread laws need it).
void SetFloatingPointMode();

}  // namespace conclave::core
