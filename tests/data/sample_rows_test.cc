// SPDX-License-Identifier: Apache-2.0
#include "data/sample_rows.h"

#include <algorithm>
#include <map>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "data/packing.h"

namespace conclave::data {
namespace {

using Ids = std::vector<int32_t>;

void Add(const Ids& tokens, const std::vector<uint8_t>& learned, Samples& samples) {
  samples.tokens.insert(samples.tokens.end(), tokens.begin(), tokens.end());
  samples.learned.insert(samples.learned.end(), learned.begin(), learned.end());
  samples.ends.push_back(static_cast<int64_t>(samples.tokens.size()));
}

// Samples with these numbers of tokens; token t of sample s is 1000 s + t.
Samples OfLengths(const std::vector<int64_t>& lengths) {
  Samples samples;
  for (size_t i = 0; i < lengths.size(); ++i) {
    Ids tokens;
    for (int64_t t = 0; t < lengths[i]; ++t) tokens.push_back(static_cast<int32_t>(1000 * i + t));
    Add(tokens, std::vector<uint8_t>(tokens.size(), 1), samples);
  }
  return samples;
}

core::Batch FillAll(const SampleRows& rows, int64_t length) {
  core::Batch batch = PaddingBatch(rows.num_rows(), length);
  for (int64_t row = 0; row < rows.num_rows(); ++row) rows.Fill(row, row, batch);
  return batch;
}

TEST(SampleRows, LabelsAreTheLearnedTokensThatFollow) {
  Samples samples;
  Add({10, 11, 12, 13}, {0, 0, 1, 1}, samples);
  Add({20, 21, 22}, {1, 1, 0}, samples);
  const core::Batch batch = FillAll(SampleRows(7, samples), 7);
  EXPECT_EQ(batch.tokens, (Ids{10, 11, 12, 20, 21, 0, 0}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 0, 1, -1, -1}));
  EXPECT_EQ(batch.labels, (Ids{-1, 12, 13, 21, -1, -1, -1}));
  EXPECT_EQ(batch.num_labels, 3);
}

TEST(SampleRows, NeverSplitASampleAndHoldEachOnce) {
  std::vector<int64_t> lengths;
  for (int i = 0; i < 500; ++i) lengths.push_back(2 + core::Philox(7, i, 0)[0] % 32);
  const SampleRows rows(32, OfLengths(lengths));
  const core::Batch batch = FillAll(rows, 32);
  std::map<int32_t, int64_t> seen;
  int64_t num_labels = 0;
  for (int64_t at = 0; at < batch.rows * 32; ++at) {
    if (batch.positions[at] < 0) continue;
    const int32_t sample = batch.tokens[at] / 1000;
    ASSERT_EQ(batch.tokens[at] % 1000, batch.positions[at]);
    ASSERT_EQ(batch.labels[at], batch.tokens[at] + 1);
    ASSERT_TRUE(batch.positions[at] == 0 || batch.tokens[at - 1] == batch.tokens[at] - 1);
    ++seen[sample];
    ++num_labels;
  }
  EXPECT_EQ(batch.num_labels, num_labels);
  ASSERT_EQ(seen.size(), lengths.size());
  for (const auto& [sample, tokens] : seen) ASSERT_EQ(tokens, lengths[sample] - 1);
}

TEST(SampleRows, WasteLittle) {
  std::vector<int64_t> lengths;
  int64_t slots = 0;
  for (int i = 0; i < 2000; ++i) {
    lengths.push_back(2 + core::Philox(8, i, 0)[0] % 64);
    slots += lengths.back() - 1;
  }
  const SampleRows rows(256, OfLengths(lengths));
  EXPECT_LE(rows.num_rows(), (slots + 255) / 256 + 1);
  EXPECT_EQ(SampleRows(4, OfLengths({5, 5, 5})).num_rows(), 3);
  EXPECT_EQ(SampleRows(4, OfLengths({2, 3, 4, 3})).num_rows(), 2);  // 3 + 1, 2 + 2: first fit in file order takes 3
}

TEST(SampleRows, OrderOfRowsDoesNotFollowLength) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 100; ++i) lengths.push_back(60 + i % 40);
  const core::Batch batch = FillAll(SampleRows(100, OfLengths(lengths)), 100);
  int64_t first_half = 0, all = 0;
  for (int64_t at = 0; at < batch.rows * 100; ++at) {
    const int64_t is_token = batch.positions[at] >= 0;
    all += is_token;
    first_half += at < batch.rows * 50 ? is_token : 0;
  }
  EXPECT_NEAR(static_cast<double>(first_half) / static_cast<double>(all), 0.5, 0.05);
}

TEST(SampleRows, ChecksumIsOverTokensLabelsAndBorders) {
  const auto checksum = [](const Ids& tokens, const std::vector<uint8_t>& learned) {
    Samples samples;
    Add(tokens, learned, samples);
    return SampleRows(8, samples).Checksum();
  };
  const std::string first = checksum({1, 2, 3}, {0, 1, 1});
  EXPECT_EQ(checksum({1, 2, 3}, {0, 1, 1}), first);
  EXPECT_NE(checksum({1, 2, 4}, {0, 1, 1}), first);
  EXPECT_NE(checksum({1, 2, 3}, {0, 0, 1}), first);
  EXPECT_NE(SampleRows(8, OfLengths({2, 4})).Checksum(), SampleRows(8, OfLengths({4, 2})).Checksum());
}

}  // namespace
}  // namespace conclave::data
