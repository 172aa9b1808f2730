// SPDX-License-Identifier: Apache-2.0
// Checks of broken contracts between parts of the program: log where, then abort the job.
// What a user or a disk can cause is an absl::Status instead (status_macros.h).
#pragma once

#include <cstdint>

namespace conclave::core {

// Prints "file:line: CHECK failed: text (a vs b)" to stderr and aborts. Never returns.
[[noreturn]] void CheckFailed(const char* file, int line, const char* text);
[[noreturn]] void CheckFailed(const char* file, int line, const char* text, int64_t a, int64_t b);

}  // namespace conclave::core

#define CHECK(condition) ((condition) ? (void)0 : ::conclave::core::CheckFailed(__FILE__, __LINE__, #condition))
#define CHECK_COMPARE_(a, op, b)                                                                \
  do {                                                                                          \
    const int64_t check_a_ = static_cast<int64_t>(a), check_b_ = static_cast<int64_t>(b);       \
    if (!(check_a_ op check_b_)) {                                                              \
      ::conclave::core::CheckFailed(__FILE__, __LINE__, #a " " #op " " #b, check_a_, check_b_); \
    }                                                                                           \
  } while (false)
#define CHECK_EQ(a, b) CHECK_COMPARE_(a, ==, b)
#define CHECK_LE(a, b) CHECK_COMPARE_(a, <=, b)
#define CHECK_LT(a, b) CHECK_COMPARE_(a, <, b)
#define CHECK_GE(a, b) CHECK_COMPARE_(a, >=, b)
