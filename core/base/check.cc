// SPDX-License-Identifier: Apache-2.0
#include "core/base/check.h"

#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace conclave::core {
namespace {

struct HookState {
  std::mutex mutex;
  AbortHook hook;
};

// Never destroyed: a CHECK may fail while the process ends.
HookState& State() {
  static HookState& state = *new HookState;
  return state;
}

}  // namespace

void SetAbortHook(AbortHook hook) {
  const std::lock_guard lock(State().mutex);
  State().hook = std::move(hook);
}

void Fatal(std::string_view message) {
  static std::atomic<bool> ending{false};
  static thread_local bool ending_here = false;
  if (ending_here) std::abort();  // the hook itself has failed
  if (ending.exchange(true)) {
    for (;;) pause();  // another thread is ending the process; its message is the one to read
  }
  ending_here = true;
  AbortHook hook;
  {
    const std::lock_guard lock(State().mutex);
    hook = State().hook;
  }
  if (hook) {
    hook(message);
  } else {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
  }
  std::abort();
}

void CheckFailed(const char* file, int line, const char* text) {
  char message[1024];
  std::snprintf(message, sizeof(message), "%s:%d: CHECK failed: %s", file, line, text);
  Fatal(message);
}

void CheckFailed(const char* file, int line, const char* text, int64_t a, int64_t b) {
  char message[1024];
  std::snprintf(message, sizeof(message), "%s:%d: CHECK failed: %s (%" PRId64 " vs %" PRId64 ")", file, line, text, a,
                b);
  Fatal(message);
}

}  // namespace conclave::core
