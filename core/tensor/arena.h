// SPDX-License-Identifier: Apache-2.0
// Bump memory of one lifetime on one device. Nothing is freed singly: a Scope returns to where it began, Reset to the
// start. Without memory behind it (a measuring arena) it hands out fake addresses and only records the high-water mark:
// that is how a run knows its peak before step 1 (core/model/memory_plan.h).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/tensor/tensor.h"

namespace conclave::core {

inline constexpr int64_t kArenaAlignment = 128;  // bytes: two cache lines, enough for every vector and TMA load

class Arena {
 public:
  // A measuring arena: `label` for messages; memory comes with Attach.
  explicit Arena(std::string label) : label_(std::move(label)) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Gives the arena its memory. It must hold every later allocation: going beyond is a broken plan, and aborts.
  void Attach(void* memory, int64_t capacity);

  // Uninitialized; aligned to kArenaAlignment.
  Tensor Allocate(DType dtype, std::initializer_list<int64_t> shape);

  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }  // bytes, since Attach or ResetPeak
  void ResetPeak() { peak_ = used_; }
  bool measuring() const { return memory_ == nullptr; }
  void Reset() { used_ = 0; }
  // Frees what was allocated since used() was `used`.
  void ReleaseTo(int64_t used) { used_ = used; }

  // Frees on destruction what was allocated since construction.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), used_(arena.used_) {}
    ~Scope() {
      if (used_ >= 0) arena_.used_ = used_;
    }
    void Keep() { used_ = -1; }  // what was allocated stays
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    int64_t used_;
  };

 private:
  std::string label_;
  char* memory_ = nullptr;
  int64_t capacity_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace conclave::core
