// SPDX-License-Identifier: Apache-2.0
// Where the answer of a response stands. What is thought does not count: an answer is looked for outside <think> alone,
// and what follows an unclosed <think> is all thought, as is what comes before a </think> that nothing has opened.
#pragma once

#include <optional>
#include <string_view>

namespace conclave::rl {

enum class AnswerFallback { kNone, kLastNumber };

// The last <answer>...</answer> (of it, the last \boxed{} if there is one), else the last \boxed{...}, else what the
// fallback says. A part of `text` without white space around it.
std::optional<std::string_view> ExtractAnswer(std::string_view text, AnswerFallback fallback);

// The thoughts: what stands inside <think>, closed or not; the whole text if there is none.
std::string_view ExtractThoughts(std::string_view text);

}  // namespace conclave::rl
