// SPDX-License-Identifier: Apache-2.0
// GPT-2's alphabet: one printable character for each byte, so that tokens of byte-level BPE can stand in JSON.
// Bytes 33..126, 161..172 and 174..255 are the characters of those code points; the other 68 are code points 256 on, in
// rising order.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::data {

// The characters in UTF-8, by byte.
const std::array<std::string, 256>& ByteAlphabet();

std::string ToByteAlphabet(std::string_view bytes);

// The bytes that `text` stands for; nothing if it has a character outside of the alphabet.
std::optional<std::string> FromByteAlphabet(std::string_view text);

}  // namespace conclave::data
