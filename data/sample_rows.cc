// SPDX-License-Identifier: Apache-2.0
#include "data/sample_rows.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/rng.h"

namespace conclave::data {
namespace {

// The samples of each row, first come the rows that were opened first. A sample goes where the least room is left that
// it fits into; of equal ones to the row opened first.
std::vector<std::vector<int64_t>> PackBestFit(const Samples& samples, int64_t length) {
  std::vector<int64_t> order(samples.ends.size());
  std::iota(order.begin(), order.end(), 0);
  const auto slots = [&](int64_t sample) { return samples.ends[sample] - samples.Begin(sample) - 1; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return slots(a) > slots(b); });
  std::vector<std::vector<int64_t>> rows;
  std::set<std::pair<int64_t, int64_t>> rooms;  // {slots left, row}
  for (const int64_t sample : order) {
    CHECK(slots(sample) >= 1 && slots(sample) <= length);
    auto room = rooms.lower_bound({slots(sample), 0});
    if (room == rooms.end()) {
      room = rooms.insert({length, static_cast<int64_t>(rows.size())}).first;
      rows.emplace_back();
    }
    const auto [left, row] = *room;
    rooms.erase(room);
    rooms.insert({left - slots(sample), row});
    rows[row].push_back(sample);
  }
  return rows;
}

}  // namespace

SampleRows::SampleRows(int64_t length, Samples samples) : length_(length), samples_(std::move(samples)) {
  const std::vector<std::vector<int64_t>> rows = PackBestFit(samples_, length);
  const core::KeyedPermutation order(core::RandomKey(0, core::RandomPurpose::kDataOrder, 0), rows.size());
  for (size_t row = 0; row < rows.size(); ++row) {
    const std::vector<int64_t>& packed = rows[order(row)];
    packed_.insert(packed_.end(), packed.begin(), packed.end());
    row_ends_.push_back(static_cast<int64_t>(packed_.size()));
  }
}

void SampleRows::Fill(int64_t row, int64_t slot, core::Batch& batch) const {
  CHECK_LT(row, num_rows());
  CHECK_EQ(batch.length, length_);
  int64_t at = slot * length_;
  for (int64_t i = row == 0 ? 0 : row_ends_[row - 1]; i < row_ends_[row]; ++i) {
    const int64_t begin = samples_.Begin(packed_[i]), end = samples_.ends[packed_[i]];
    for (int64_t token = begin; token + 1 < end; ++token, ++at) {
      batch.tokens[at] = samples_.tokens[token];
      batch.positions[at] = static_cast<int32_t>(token - begin);
      if (samples_.learned[token + 1] == 0) continue;
      batch.labels[at] = samples_.tokens[token + 1];
      ++batch.num_labels;
    }
  }
}

std::string SampleRows::Checksum() const {
  core::Hasher hasher;
  hasher.Update(samples_.tokens.data(), samples_.tokens.size() * sizeof(int32_t));
  hasher.Update(samples_.learned.data(), samples_.learned.size());
  hasher.Update(samples_.ends.data(), samples_.ends.size() * sizeof(int64_t));
  return hasher.HexDigest();
}

}  // namespace conclave::data
