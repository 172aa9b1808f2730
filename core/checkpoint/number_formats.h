// SPDX-License-Identifier: Apache-2.0
// The element types of safetensors: their names, their widths, which of them are ours, and the exact f32 value of the
// two small ones that DType has no conversion for.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor/dtype.h"

namespace conclave::core {

struct StoredTypeInfo {
  const char* name;            // as in a safetensors header
  int bits;                    // per element
  std::optional<DType> dtype;  // ours, if it is one of ours
};

inline constexpr StoredTypeInfo kStoredTypes[] = {
    {"F32", 32, DType::kF32},
    {"BF16", 16, DType::kBf16},
    {"F8_E4M3", 8, DType::kF8E4M3},
    {"I32", 32, DType::kI32},
    {"I64", 64, DType::kI64},
    {"F64", 64, DType::kF64},
    {"U8", 8, DType::kU8},
    {"F16", 16, std::nullopt},
    {"BOOL", 8, std::nullopt},
    {"I8", 8, std::nullopt},
    {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},
    {"C64", 64, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
};

inline const StoredTypeInfo* FindStoredType(std::string_view name) {
  for (const StoredTypeInfo& type : kStoredTypes) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

inline const char* StoredTypeName(DType dtype) {
  for (const StoredTypeInfo& type : kStoredTypes) {
    if (type.dtype == dtype) return type.name;
  }
  return "?";
}

// IEEE binary16; every value is a float. NaN stays NaN.
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

// e4m3 without infinities: S.1111.111 is NaN, the largest value 448.
inline float Float8ToFloat(uint8_t byte) {
  const uint32_t sign = (byte & 0x80u) << 24, exponent = (byte >> 3) & 0xfu, fraction = byte & 0x7u;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-9f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 15 && fraction == 7) return std::bit_cast<float>(sign | 0x7fc00000u);
  return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (fraction << 20));
}

}  // namespace conclave::core
