// SPDX-License-Identifier: Apache-2.0
// Regular expressions of tokenizer.json are written for Oniguruma, tiktoken's for Rust's fancy-regex; ours run on
// PCRE2. What the three share stays; where a class means other characters, it is spelled out.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::data {

// The pattern for PCRE2 (UTF and UCP). \s is Unicode's White_Space (PCRE2 adds U+180E), \w has marks, as in Oniguruma.
// Set operations inside of classes (&&) are an error: PCRE2 would read them as plain characters.
absl::StatusOr<std::string> ToPcre2(std::string_view pattern);

// A pattern that matches `text` and nothing else.
std::string LiteralPattern(std::string_view text);

}  // namespace conclave::data
