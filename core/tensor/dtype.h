// SPDX-License-Identifier: Apache-2.0
// Element types. f32 is the type of masters and accumulators, bf16 of bf16 compute, i64 of gradients (fixed_sum.h).
#pragma once

#include <bit>
#include <cstdint>

namespace conclave::core {

enum class DType : uint8_t { kF32, kBf16, kF8E4M3, kI32, kI64, kF64, kU8 };

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32: case DType::kI32: return 4;
    case DType::kBf16: return 2;
    case DType::kF8E4M3: case DType::kU8: return 1;
    case DType::kI64: case DType::kF64: return 8;
  }
  return 0;
}

const char* Name(DType dtype);  // "f32", "bf16", ...

// bfloat16 as storage: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};
inline float ToFloat(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
// Nearest-even; NaN stays NaN (quiet).
inline Bf16 ToBf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

}  // namespace conclave::core
