// SPDX-License-Identifier: Apache-2.0
#include "launch/metrics.h"

#include <sys/resource.h>

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "launch/loss_curve.h"
#include "launch/progress.h"
#include "launch/text.h"
#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

TEST(Metrics, NumbersReadBackToTheSameBits) {
  for (const double value : {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e21, 123456789.0}) {
    const double back = std::strtod(JsonNumber(value).c_str(), nullptr);
    EXPECT_EQ(back, value);
    EXPECT_EQ(std::signbit(back), std::signbit(value));
  }
  EXPECT_EQ(JsonNumber(0.1), "0.1");
}

TEST(Metrics, WhatIsNoNumberIsNull) {
  EXPECT_EQ(JsonNumber(std::nan("")), "null");
  EXPECT_EQ(JsonNumber(-std::numeric_limits<double>::infinity()), "null");
}

TEST(Metrics, LineIsOneObject) {
  JsonLine line;
  line.Add("step", int64_t{3});
  line.Add("loss", 2.5);
  line.Add("name", "a \"b\"");
  EXPECT_EQ(line.Take(), "{\"step\": 3, \"loss\": 2.5, \"name\": \"a \\\"b\\\"\"}\n");
}

TEST(Metrics, HistoryEndsWithTheCheckpointsStep) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  WriteFile(
      path,
      "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"loss\": null}\n{\"step\": 3, \"loss\": 1}\n{\"step\": 4, \"lo");
  const auto history = ReadMetrics(path, 2);
  ASSERT_TRUE(history.ok());
  EXPECT_EQ(history->last_step, 2);
  ASSERT_EQ(history->values.size(), 2u);
  EXPECT_TRUE(std::isnan(history->values[1]));
  auto file = AppendFile::Open(path, history->bytes);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->Append("{\"step\": 3, \"loss\": 0}\n").ok());
  EXPECT_EQ(ReadFile(path), "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"loss\": null}\n{\"step\": 3, \"loss\": 0}\n");
}

TEST(Metrics, HistoryStopsAtWhatIsNotALine) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::string good = "{\"step\": 1, \"loss\": 3}\n";
  for (const char* bad : {"{\"step\": 1, \"loss\": 3}\n", "garbage\n", "[]\n", "{\"loss\": 1}\n",
                          "{\"step\": \"2\", \"loss\": 1}\n", "{\"step\": 2}\n", "{\"step\": 2, \"loss\": 1}"}) {
    WriteFile(path, good + bad);
    const auto history = ReadMetrics(path, 100);
    ASSERT_TRUE(history.ok());
    EXPECT_EQ(history->bytes, static_cast<int64_t>(good.size())) << bad;
  }
  EXPECT_EQ(ReadMetrics(folder / "absent", 100)->bytes, 0);
}

TEST(Metrics, LinesWaitWhileTheDiskIsFull) {
  const TemporaryFolder folder;
  auto file = AppendFile::Open(folder / "metrics.jsonl", 0);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->Append("first\n").ok());
  // A limit on the size of files stands for a disk that fills up within the second line.
  struct rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  const struct rlimit small = {.rlim_cur = 8, .rlim_max = before.rlim_max};
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_FALSE(file->Append("second\n").ok());
  EXPECT_FALSE(file->Append("third\n").ok());
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(file->Append("fourth\n").ok());
  EXPECT_EQ(ReadFile(folder / "metrics.jsonl"), "first\nsecond\nthird\nfourth\n");
}

TEST(Text, ReadsWell) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(1234567), "1,234,567");
  EXPECT_EQ(CountText(-123), "-123");
  EXPECT_EQ(BytesText(1000), "1000 bytes");
  EXPECT_EQ(BytesText(int64_t{5} << 30), "5.0 GiB");
  EXPECT_EQ(DurationText(3723), "1:02:03");
  EXPECT_EQ(DurationText(6.6), "0:07");
  EXPECT_EQ(FlopRateText(1.5e9), "1.5 GFLOP/s");
}

const ProgressState kProgress = {.step = 120,
                                 .total_steps = 300,
                                 .loss = 2.345,
                                 .grad_norm = 0.85,
                                 .lr = 9.2e-4,
                                 .tokens_per_second = 12345,
                                 .flops_per_second = 5.2e9,
                                 .load_imbalance = 1.2,
                                 .validation_loss = 2.5,
                                 .seconds_left = 35,
                                 .finish = "16:20"};

std::string ProgressLine(size_t columns) {
  std::string line;
  for (const ProgressPart& part : ProgressParts(kProgress, columns)) {
    line += (line.empty() ? "" : std::string(kProgressGap)) + part.text;
  }
  return line;
}

TEST(Progress, SaysHowFarARunIs) {
  EXPECT_EQ(ProgressLine(200),
            "step 120/300  40%  loss 2.3450  validation 2.5000  norm 0.850  lr 9.20e-04  12,345 tok/s  5.2 GFLOP/s  "
            "load 1.20  ETA 0:35  (16:20)");
}

TEST(Progress, FitsEveryWidthAndKeepsWhatMattersMost) {
  for (size_t columns = 1; columns < 140; ++columns) EXPECT_LE(ProgressLine(columns).size(), columns);
  EXPECT_EQ(ProgressLine(79), "step 120/300  40%  loss 2.3450  validation 2.5000  ETA 0:35  (16:20)");
  EXPECT_EQ(ProgressLine(45), "step 120/300  loss 2.3450  validation 2.5000");
  EXPECT_EQ(ProgressLine(7), "step 12");
}

TEST(LossCurve, FallsFromFullToLowestBlock) {
  EXPECT_EQ(LossCurve(std::vector<double>{2, 1}, 2, 2, PlotCharacters::kBlocks),
            "   2.000 \u2588 \n   1.000 \u2588\u2581\n");
}

TEST(LossCurve, HasPlainCharactersForPlainLocales) {
  EXPECT_EQ(LossCurve(std::vector<double>{2, 1}, 2, 2, PlotCharacters::kAscii), "   2.000 # \n   1.000 #.\n");
}

TEST(LossCurve, LeavesOutWhatIsNotFinite) {
  EXPECT_EQ(LossCurve(std::vector<double>{std::nan(""), std::nan("")}, 10, 2, PlotCharacters::kBlocks), "");
  EXPECT_EQ(LossCurve({}, 10, 2, PlotCharacters::kBlocks), "");
  EXPECT_NE(LossCurve(std::vector<double>{1, std::nan(""), 0.5}, 10, 2, PlotCharacters::kBlocks), "");
}

}  // namespace
}  // namespace conclave::launch
