// SPDX-License-Identifier: Apache-2.0
#include "core/base/check.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

namespace conclave::core {

void CheckFailed(const char* file, int line, const char* text) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, text);
  std::abort();
}

void CheckFailed(const char* file, int line, const char* text, int64_t a, int64_t b) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s (%" PRId64 " vs %" PRId64 ")\n", file, line, text, a, b);
  std::abort();
}

}  // namespace conclave::core
