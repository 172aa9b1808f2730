// SPDX-License-Identifier: Apache-2.0
// The little that tokenizers need to know of Unicode: white space, word characters, normal forms.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "data/bpe_description.h"

namespace conclave::data {

// Length of the longest prefix that is valid UTF-8.
size_t ValidUtf8Length(std::string_view text);

bool IsWhiteSpace(char32_t character);     // the property White_Space
bool IsWordCharacter(char32_t character);  // letters, marks, decimal digits, connectors

// Lengths in bytes of the white space that valid UTF-8 begins or ends with.
size_t LeadingWhiteSpace(std::string_view text);
size_t TrailingWhiteSpace(std::string_view text);
bool StartsWithWordCharacter(std::string_view text);
bool EndsWithWordCharacter(std::string_view text);

// `text`, valid UTF-8, in a normal form.
std::string Normalize(std::string_view text, Normalization form);

}  // namespace conclave::data
