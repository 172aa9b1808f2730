// SPDX-License-Identifier: Apache-2.0
#include "core/base/check.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace conclave::core {
namespace {

TEST(CheckDeathTest, TellsWhereAndWhat) {
  EXPECT_DEATH(CHECK(1 > 2), "check_test.cc:[0-9]+: CHECK failed: 1 > 2");
  const auto compare = [] { CHECK_EQ(1 + 1, 3); };
  EXPECT_DEATH(compare(), "CHECK failed: 1 \\+ 1 == 3 \\(2 vs 3\\)");
  EXPECT_DEATH(Fatal("the end"), "^the end\n$");
}

TEST(CheckDeathTest, LeavesTheEndToTheHook) {
  const auto fail = [] {
    SetAbortHook([](std::string_view message) {
      std::fprintf(stderr, "hook: %.*s\n", static_cast<int>(message.size()), message.data());
      std::_Exit(7);
    });
    Fatal("the end");
  };
  EXPECT_EXIT(fail(), ::testing::ExitedWithCode(7), "^hook: the end\n$");
}

TEST(CheckDeathTest, AHookThatFailsOrReturnsStillEndsTheProcess) {
  EXPECT_DEATH(
      {
        SetAbortHook([](std::string_view) { CHECK(false); });
        Fatal("the end");
      },
      "");
  EXPECT_DEATH(
      {
        SetAbortHook([](std::string_view) {});
        Fatal("the end");
      },
      "");
}

TEST(CheckDeathTest, OfManyThreadsOneSpeaks) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fail = [] {
    SetAbortHook([](std::string_view) {
      std::fputs("speaks", stderr);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time for the others
      std::_Exit(7);
    });
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back([] { Fatal("the end"); });
    for (std::thread& thread : threads) thread.join();
  };
  EXPECT_EXIT(fail(), ::testing::ExitedWithCode(7), "^speaks$");
}

}  // namespace
}  // namespace conclave::core
