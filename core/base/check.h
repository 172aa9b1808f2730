// SPDX-License-Identifier: Apache-2.0
// Checks of broken contracts between parts of the program: log where, then end the job, which may be many processes.
// What a user or a disk can cause is an absl::Status instead (status_macros.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace conclave::core {

// Prints the message to stderr and aborts, or does what the hook does. Never returns; of several threads that fail at
// once, the first speaks.
[[noreturn]] void Fatal(std::string_view message);

// Fatal with "file:line: CHECK failed: text (a vs b)".
[[noreturn]] void CheckFailed(const char* file, int line, const char* text);
[[noreturn]] void CheckFailed(const char* file, int line, const char* text, int64_t a, int64_t b);

// Prints the message, with which rank this is, and ends the processes of all ranks. Called at most once, by any thread;
// should it return, the process aborts.
using AbortHook = std::function<void(std::string_view message)>;

// Replaces what Fatal does; nullptr restores it. The one state of the whole process, since a CHECK can stand anywhere.
void SetAbortHook(AbortHook hook);

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
