// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for the answers of models: an expected answer, a zero byte, a response. An expected answer that can
// be compared equals itself, alone and in a response; a response never gets more than 1, and the same each time.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "rl/reward/answer_rewards.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave::rl;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const std::string_view expected = text.substr(0, text.find('\0')),
                         response = text.substr(std::min(size, expected.size() + 1));
  if (CheckGold(expected).ok()) CHECK_EQ(CompareMathAnswer(expected, expected).value, 1);
  const auto answer = ExtractAnswer(response, AnswerFallback::kLastNumber);
  if (!answer) return 0;
  CHECK(response.find(*answer) != std::string_view::npos);
  for (const auto compare : {CompareMathAnswer, CompareExactAnswer, CompareNumericAnswer}) {
    const Score once = compare(expected, *answer), twice = compare(expected, *answer);
    CHECK(once.value == (once.outcome == Outcome::kRight ? 1 : 0));
    CHECK(once.outcome == twice.outcome && once.reason == twice.reason);
  }
  return 0;
}
