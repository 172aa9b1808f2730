// SPDX-License-Identifier: Apache-2.0
#include "data/byte_alphabet.h"

#include <cstdint>

namespace conclave::data {
namespace {

constexpr int kNumCodePoints = 256 + 68;

struct Tables {
  std::array<std::string, 256> characters;    // by byte, UTF-8
  std::array<int16_t, kNumCodePoints> bytes;  // by code point; -1: not in the alphabet
};

Tables MakeTables() {
  Tables tables;
  tables.bytes.fill(-1);
  int next_replacement = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code_point = printable ? byte : next_replacement++;
    tables.bytes[code_point] = static_cast<int16_t>(byte);
    if (code_point < 128) {
      tables.characters[byte] = static_cast<char>(code_point);
    } else {
      tables.characters[byte] = {static_cast<char>(0xC0 | (code_point >> 6)),
                                 static_cast<char>(0x80 | (code_point & 0x3F))};
    }
  }
  return tables;
}

const Tables& GetTables() {
  static const Tables tables = MakeTables();
  return tables;
}

}  // namespace

const std::array<std::string, 256>& ByteAlphabet() { return GetTables().characters; }

std::string ToByteAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += ByteAlphabet()[static_cast<unsigned char>(byte)];
  return text;
}

std::optional<std::string> FromByteAlphabet(std::string_view text) {
  const Tables& tables = GetTables();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code_point = static_cast<unsigned char>(text[i]);
    if (code_point >= 0xC2 && code_point < 0xE0 && i + 1 < text.size()) {
      code_point = (code_point & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F);
    } else if (code_point >= 0x80) {
      return std::nullopt;
    }
    if (code_point >= kNumCodePoints || tables.bytes[code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(tables.bytes[code_point]);
  }
  return bytes;
}

}  // namespace conclave::data
