// SPDX-License-Identifier: Apache-2.0
#include "core/base/log.h"

#include <gtest/gtest.h>

#include <string>

namespace conclave::core {
namespace {

std::string Captured(void (*log)(std::string_view), std::string_view text) {
  ::testing::internal::CaptureStderr();
  log(text);
  return ::testing::internal::GetCapturedStderr();
}

// "12:34:56 text\n" -> "text\n", checking the time.
std::string AfterTime(const std::string& line) {
  EXPECT_GE(line.size(), 9u);
  for (size_t i : {0, 1, 3, 4, 6, 7}) EXPECT_TRUE(line[i] >= '0' && line[i] <= '9') << line;
  EXPECT_EQ(line[2], ':');
  EXPECT_EQ(line[5], ':');
  EXPECT_EQ(line[8], ' ');
  return line.substr(9);
}

TEST(Log, StatesTimeAndTheLevelWhereItMatters) {
  EXPECT_EQ(AfterTime(Captured(LogInfo, "step 1")), "step 1\n");
  EXPECT_EQ(AfterTime(Captured(LogWarning, "slow disk")), "warning: slow disk\n");
  EXPECT_EQ(AfterTime(Captured(LogError, "no disk")), "error: no disk\n");
}

TEST(Log, KeepsARecordOnOneLine) {
  EXPECT_EQ(AfterTime(Captured(LogInfo, "two\nlines\n\n")), "two lines\n");
  EXPECT_EQ(AfterTime(Captured(LogWarning, "")), "warning: \n");
}

}  // namespace
}  // namespace conclave::core
