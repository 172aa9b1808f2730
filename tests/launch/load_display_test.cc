// SPDX-License-Identifier: Apache-2.0
#include "launch/load_display.h"

#include "gtest/gtest.h"

namespace conclave::launch {
namespace {

TEST(LoadText, ShowsABarWithSpeedAndTimeLeft) {
  const data::LoadProgress progress{.phase = data::LoadProgress::Phase::kTokenizing,
                                    .source = "a.jsonl",
                                    .bytes_done = 45'000'000,
                                    .bytes_total = 100'000'000};
  EXPECT_EQ(LoadText(progress, 2, 40'000'000), "tokenizing [#########...........] 45%  20.0 MB/s  ETA 0:03  a.jsonl");
}

TEST(LoadText, NeverGoesBeyondTheEnd) {
  data::LoadProgress progress{.source = "a", .bytes_done = 12, .bytes_total = 10};
  EXPECT_EQ(LoadText(progress, 1, 12).find("reading [####################] 100%"), 0u);
  progress.bytes_total = 0;
  EXPECT_EQ(LoadText(progress, 1, 12), "reading a");
}

}  // namespace
}  // namespace conclave::launch
