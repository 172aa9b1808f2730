// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for answers to a countdown: whatever a model writes is judged, and only what holds the numbers of the
// prompt, each once, is right.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "data/tasks/countdown.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave;
  const std::string_view answer(reinterpret_cast<const char*>(bytes), size);
  if (!data::CheckCountdown("Use 8, 3, 5 once each to make 25", answer)) return 0;
  const std::string_view expression = answer.substr(0, answer.find('='));
  std::string digits;
  for (const char c : expression) {
    if (c >= '1' && c <= '9') digits += c;
    CHECK(std::string_view("0123456789+-*/() ").find(c) != std::string_view::npos);
  }
  std::sort(digits.begin(), digits.end());
  CHECK(digits == "358");
  return 0;
}
