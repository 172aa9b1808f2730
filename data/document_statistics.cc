// SPDX-License-Identifier: Apache-2.0
#include "data/document_statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace conclave::data {
namespace {

constexpr size_t kMostHashes = size_t{1} << 20;

}  // namespace

int LengthHistogram::BucketOf(int64_t length) {
  if (length < 2 * kSteps) return static_cast<int>(length);
  const int shift = std::bit_width(static_cast<uint64_t>(length)) - 7;  // leaves 64 .. 127
  return 2 * kSteps + (shift - 1) * kSteps + static_cast<int>((length >> shift) - kSteps);
}

int64_t LengthHistogram::LeastOf(int bucket) {
  if (bucket < 2 * kSteps) return bucket;
  const int shift = (bucket - 2 * kSteps) / kSteps + 1;
  return static_cast<int64_t>(kSteps + bucket % kSteps) << shift;
}

void LengthHistogram::Add(int64_t length) {
  ++counts_[BucketOf(length)];
  ++count_;
  sum_ += length;
  smallest_ = std::min(smallest_, length);
  largest_ = std::max(largest_, length);
}

int64_t LengthHistogram::Quantile(double share) const {
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(count_)));
  int64_t seen = 0;
  for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    seen += counts_[bucket];
    if (seen > 0 && seen >= wanted) return LeastOf(static_cast<int>(bucket));
  }
  return 0;
}

void DuplicateCounter::Add(uint64_t hash) {
  if (!IsSampled(hash)) return;
  ++times_[hash];
  ++num_documents_;
  while (times_.size() > kMostHashes) {
    ++halvings_;
    std::erase_if(times_, [&](const auto& entry) {
      if (IsSampled(entry.first)) return false;
      num_documents_ -= entry.second;
      return true;
    });
  }
}

}  // namespace conclave::data
