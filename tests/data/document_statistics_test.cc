// SPDX-License-Identifier: Apache-2.0
#include "data/document_statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "data/byte_tokenizer.h"
#include "data/source_report.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

TEST(LengthHistogram, GivesQuantilesThatAreAtMostAFewPercentTooSmall) {
  LengthHistogram histogram;
  std::vector<int64_t> lengths;
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto words = core::Philox(7, i, 0);
    lengths.push_back(static_cast<int64_t>(words[0] >> (words[1] % 32)));  // every magnitude
    histogram.Add(lengths.back());
  }
  std::sort(lengths.begin(), lengths.end());
  EXPECT_EQ(histogram.smallest(), lengths.front());
  EXPECT_EQ(histogram.largest(), lengths.back());
  EXPECT_EQ(histogram.count(), 20000);
  for (const double share : {0.01, 0.25, 0.5, 0.9, 0.99, 1.0}) {
    const int64_t exact = lengths[static_cast<size_t>(std::ceil(share * 20000)) - 1];
    EXPECT_LE(histogram.Quantile(share), exact) << share;
    EXPECT_GE(static_cast<double>(histogram.Quantile(share)), static_cast<double>(exact) * (1 - 1.0 / 64)) << share;
  }
}

TEST(LengthHistogram, HoldsTheLargestNumbersAndNone) {
  LengthHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  histogram.Add(INT64_MAX);
  EXPECT_EQ(histogram.Quantile(0.5), int64_t{127} << 56);
  histogram.Add(0);
  EXPECT_EQ(histogram.Quantile(0.5), 0);
}

TEST(DuplicateCounter, CountsAllButTheFirstOfEachText) {
  DuplicateCounter counter;
  for (const uint64_t hash : {1, 2, 1, 3, 1, 2}) counter.Add(hash);
  EXPECT_EQ(counter.Count(), 3);
  EXPECT_TRUE(counter.IsExact());
}

TEST(DuplicateCounter, EstimatesOnceThereAreTooManyTexts) {
  DuplicateCounter counter;
  constexpr int64_t kTexts = 3 << 20;
  for (int round = 0; round < 2; ++round) {
    for (int64_t i = 0; i < kTexts; ++i) {
      if (round == 1 && i % 4 != 0) continue;  // every fourth comes again
      counter.Add(core::RandomKey(1, core::RandomPurpose::kTest, static_cast<uint64_t>(i)));
    }
  }
  EXPECT_FALSE(counter.IsExact());
  EXPECT_NEAR(static_cast<double>(counter.Count()), kTexts / 4.0, 0.01 * kTexts / 4);
}

TEST(SourceReport, CountsWhatIsThereAndWhatIsBroken) {
  const TempFolder folder;
  folder.Write("d/a.jsonl",
               "{\"text\": \"one\"}\n{\n{\"text\": \"\"}\n{\"text\": \"three\"}\n{\"text\": \"one\"}\n[]\n");
  folder.Write("d/b.txt", "two");
  folder.Write("d/c.jsonl.gz", Gzip("{\"text\": \"one\"}\n") + "x");
  core::SourceConfig source;
  source.path = folder.Path("d");
  const auto report = InspectSource(source, "auto", ByteTokenizer(), {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->num_files, 3);
  EXPECT_EQ(report->lengths.count(), 4);
  EXPECT_EQ(report->num_empty_documents, 1);
  EXPECT_EQ(report->num_problems, 3);
  EXPECT_EQ(report->problems.at(0),
            folder.Path("d/a.jsonl") + ":2:2: not valid JSON: the text ends where a key in double quotes is expected");
  EXPECT_EQ(report->text_bytes, 14);
  EXPECT_EQ(report->num_tokens, 14 + 8);
  EXPECT_EQ(report->duplicates.Count(), 1);
  EXPECT_FALSE(std::filesystem::exists(folder.Path("cache")));
}

}  // namespace
}  // namespace conclave::data
