// SPDX-License-Identifier: Apache-2.0
// Which source the i-th draw of a weighted blend comes from: a pure function of i, the same in every run and layout.
// After n draws every source has had its share n w to within less than one draw, so no stretch of training lacks a
// source.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace conclave::data {

class Blend {
 public:
  struct Draw {
    int64_t source;
    int64_t index;  // how often the source was drawn before
  };

  // Weights are positive and finite; they are rounded to shares of one cycle of 2^16 draws, at least one each.
  explicit Blend(std::span<const double> weights);

  Draw operator()(int64_t i) const;

  static constexpr int64_t kCycle = 1 << 16;
  static constexpr int64_t kMaxSources = 4096;

 private:
  std::vector<int64_t> shares_;         // [sources], draws per cycle
  std::vector<uint16_t> sources_;       // [cycle]
  std::vector<uint16_t> draws_before_;  // [cycle], of the same source within the cycle
};

}  // namespace conclave::data
