// SPDX-License-Identifier: Apache-2.0
// How ids are stored in a Megatron token file: the integer types among its type codes.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace conclave::data {

enum class TokenType : uint8_t { kUint8 = 1, kInt8 = 2, kInt16 = 3, kInt32 = 4, kInt64 = 5, kUint16 = 8 };

constexpr int64_t SizeOf(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8:
      return 1;
    case TokenType::kInt16:
    case TokenType::kUint16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  return 0;  // no type: the byte of a file
}

// What Megatron's own preprocessing chooses.
constexpr TokenType TypeForVocabulary(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32;
}

// kUint16 or kInt32.
void AppendIds(std::span<const int32_t> ids, TokenType type, std::string& bytes);

}  // namespace conclave::data
