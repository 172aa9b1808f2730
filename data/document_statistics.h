// SPDX-License-Identifier: Apache-2.0
// Lengths and repetitions of any number of documents in bounded memory.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>

namespace conclave::data {

// Smallest, largest and mean are exact, quantiles are at most 1.6% too small.
class LengthHistogram {
 public:
  void Add(int64_t length);  // at least 0

  int64_t count() const { return count_; }
  int64_t smallest() const { return count_ == 0 ? 0 : smallest_; }
  int64_t largest() const { return largest_; }
  double Mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_); }
  int64_t Quantile(double share) const;  // the smallest length that `share` of all do not exceed

 private:
  // Exact up to 127, then 64 buckets per power of two.
  static constexpr int kSteps = 64;
  static int BucketOf(int64_t length);
  static int64_t LeastOf(int bucket);

  std::array<int64_t, 128 + 56 * kSteps> counts_ = {};
  int64_t count_ = 0, sum_ = 0, smallest_ = INT64_MAX, largest_ = 0;
};

// How many documents have the text of an earlier one, by 64-bit hashes. Beyond about a million different texts it looks
// at half of all hashes, then at a quarter, ...: equal texts stay together, so the count becomes an estimate.
class DuplicateCounter {
 public:
  void Add(uint64_t hash);
  int64_t Count() const { return (num_documents_ - static_cast<int64_t>(times_.size())) << halvings_; }
  bool IsExact() const { return halvings_ == 0; }

 private:
  bool IsSampled(uint64_t hash) const { return (hash & ((uint64_t{1} << halvings_) - 1)) == 0; }

  std::unordered_map<uint64_t, int64_t> times_;  // sampled hash -> documents that have it
  int64_t num_documents_ = 0;                    // sampled
  int halvings_ = 0;
};

}  // namespace conclave::data
