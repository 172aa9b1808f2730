// SPDX-License-Identifier: Apache-2.0
// Tokens to experts and back. Routed rows are ordered by (expert, row of the batch, position): a stable counting sort,
// so that an expert's sums do not depend on which rank its tokens came from.
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kTables = 4;          // of counts
constexpr int64_t kChoiceGrain = 4096;  // choices per chunk where each is one load and one store

// More than this does not stay in a shared cache until somebody reads it: then it is written past the caches, which
// saves reading the lines first.
constexpr int64_t kCachedBytes = int64_t{12} << 20;

void StreamRow(char* to, const char* from, int64_t bytes) {
  constexpr int64_t kVector = sizeof(__m128i);
  if (reinterpret_cast<uintptr_t>(to) % kVector != 0 || bytes % kVector != 0) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  for (int64_t i = 0; i < bytes; i += kVector) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  }
}

int64_t RoutedRows(const Permutation& permutation) {
  return permutation.expert_offsets.As<int32_t>()[permutation.expert_offsets.size(0) - 1];
}

// Rows of either dtype; the choice is made per vector, where a predicted branch is hidden behind the load.
class FloatRows {
 public:
  explicit FloatRows(const Tensor& x)
      : data_(static_cast<const char*>(x.data)), is_bf16_(x.dtype == DType::kBf16), stride_(x.stride(0)) {
    CHECK(!x || is_bf16_ || x.dtype == DType::kF32);
  }
  explicit operator bool() const { return data_ != nullptr; }
  template <class Lanes>
  F32x16 At(int64_t row, int64_t i, Lanes lanes) const {
    const int64_t element = row * stride_ + i;
    return is_bf16_ ? LoadLanes(reinterpret_cast<const Bf16*>(data_) + element, lanes)
                    : LoadLanes(reinterpret_cast<const float*>(data_) + element, lanes);
  }

 private:
  const char* data_;
  bool is_bf16_;
  int64_t stride_;
};

// One token; slots [k].
template <class T>
void CombineToken(const CombineArgs& args, int64_t token, const int32_t* slots, T* y) {
  const FloatRows rows(args.rows), shared(args.shared), addend(args.addend);
  const int64_t k = args.slot.size(1);
  ForEachVector(args.y.size(1), [&](int64_t i, auto lanes) {
    F32x16 sum = shared ? shared.At(token, i, lanes) : Set(0);
    for (int64_t j = 0; j < k; ++j) {
      if (slots[j] >= 0) sum = sum + rows.At(slots[j], i, lanes);
    }
    if (addend) sum = sum + addend.At(token, i, lanes);
    StoreLanes(y + i, sum, lanes);
  });
}

}  // namespace

void CpuKernels::CountExperts(Tensor experts, Tensor load) {
  const int64_t num_experts = load.size(0), choices = experts.Elements();
  const int32_t* const ids = experts.As<int32_t>();
  // Neighbours count in different tables: an increment waits for the one before it of the same number.
  int64_t* const tables = static_cast<int64_t*>(pool_.Scratch(0, kTables * num_experts * SizeOf(DType::kI64)));
  std::fill_n(tables, kTables * num_experts, 0);
  for (int64_t i = 0; i < choices; ++i) {
    if (ids[i] < 0) continue;
    CHECK_LT(ids[i], num_experts);
    ++tables[i % kTables * num_experts + ids[i]];
  }
  for (int64_t i = 0; i < kTables * num_experts; ++i) load.As<int64_t>()[i % num_experts] += tables[i];
}

void CpuKernels::BuildPermutation(Tensor experts, int64_t num_experts, Tensor row_offsets, const Permutation& out) {
  const int64_t rows = row_offsets.size(0) - 1, k = experts.size(1);
  CHECK_EQ(out.segment_offsets.size(0), num_experts * rows + 1);
  const int32_t* const ids = experts.As<int32_t>();
  const int32_t* const starts = row_offsets.As<int32_t>();
  CHECK_EQ(starts[rows], experts.size(0));
  int32_t* const segments = out.segment_offsets.As<int32_t>();
  std::fill_n(segments, num_experts * rows + 1, 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = starts[row] * k; i < starts[row + 1] * k; ++i) {
      CHECK_LT(ids[i], num_experts);
      if (ids[i] >= 0) ++segments[ids[i] * rows + row + 1];
    }
  }
  for (int64_t s = 0; s < num_experts * rows; ++s) segments[s + 1] += segments[s];
  CHECK_LE(segments[num_experts * rows], out.token.size(0));
  for (int64_t e = 0; e <= num_experts; ++e) out.expert_offsets.As<int32_t>()[e] = segments[e * rows];

  int32_t* const next = static_cast<int32_t*>(pool_.Scratch(0, (num_experts * rows + 1) * SizeOf(DType::kI32)));
  std::copy_n(segments, num_experts * rows, next);
  int32_t *const slots = out.slot.As<int32_t>(), *const tokens = out.token.As<int32_t>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = starts[row] * k; i < starts[row + 1] * k; ++i) {
      slots[i] = ids[i] < 0 ? -1 : next[ids[i] * rows + row]++;
      if (slots[i] >= 0) tokens[slots[i]] = static_cast<int32_t>(i / k);
    }
  }
}

void CpuKernels::MapExperts(Tensor experts, Tensor map, Repeats repeats, Tensor y) {
  const int64_t k = experts.size(1);
  pool_.ParallelFor(experts.size(0), kChoiceGrain / std::max<int64_t>(k, 1), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* const ids = experts.As<int32_t>() + t * k;
      int32_t* const out = y.As<int32_t>() + t * k;
      for (int64_t j = 0; j < k; ++j) {
        if (ids[j] >= 0) CHECK_LT(ids[j], map.size(0));
        out[j] = ids[j] < 0 ? -1 : map.As<int32_t>()[ids[j]];
      }
      // From the last choice back, so that those compared with are still whole.
      for (int64_t j = k - 1; repeats == Repeats::kOnce && j > 0; --j) {
        if (std::find(out, out + j, out[j]) != out + j) out[j] = -1;
      }
    }
  });
}

void CpuKernels::ListSlots(Tensor slot, Tensor list) {
  const int32_t* const slots = slot.As<int32_t>();
  int32_t* next = list.As<int32_t>();
  int32_t* const end = next + list.Elements();
  for (int64_t i = 0; i < slot.Elements(); ++i) {
    if (slots[i] < 0) continue;
    CHECK(next < end);
    *next++ = slots[i];
  }
}

void CpuKernels::GatherRows(Tensor x, const Permutation& permutation, Tensor y) {
  CHECK(x.dtype == y.dtype);
  CHECK_EQ(x.size(1), y.size(1));
  const int64_t bytes = x.size(1) * SizeOf(x.dtype), routed = RoutedRows(permutation);
  const bool stream = routed * bytes > kCachedBytes;
  const int64_t x_stride = x.stride(0) * SizeOf(x.dtype), y_stride = y.stride(0) * SizeOf(y.dtype);
  const int32_t* const tokens = permutation.token.As<int32_t>();
  pool_.ParallelFor(routed, RowGrain(x.size(1)), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      char* const to = y.As<char>() + i * y_stride;
      const char* const from = x.As<char>() + tokens[i] * x_stride;
      stream ? StreamRow(to, from, bytes) : static_cast<void>(std::memcpy(to, from, static_cast<size_t>(bytes)));
    }
    if (stream) _mm_sfence();
  });
}

void CpuKernels::ScatterChoices(Tensor per_choice, const Permutation& permutation, Tensor routed) {
  const int32_t* const slots = permutation.slot.As<int32_t>();
  pool_.ParallelFor(per_choice.Elements(), kChoiceGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      if (slots[i] >= 0) routed.As<float>()[slots[i]] = per_choice.As<float>()[i];
    }
  });
}

void CpuKernels::GatherChoices(Tensor routed, const Permutation& permutation, Tensor per_choice) {
  const int32_t* const slots = permutation.slot.As<int32_t>();
  pool_.ParallelFor(per_choice.Elements(), kChoiceGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      per_choice.As<float>()[i] = slots[i] >= 0 ? routed.As<float>()[slots[i]] : 0.0f;
    }
  });
}

void CpuKernels::Combine(const CombineArgs& args) {
  const int64_t k = args.slot.size(1);
  DispatchFloat(args.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> y(args.y);
    pool_.ParallelFor(args.y.size(0), RowGrain(args.y.size(1) * (k + 2)), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) CombineToken<T>(args, t, args.slot.As<int32_t>() + t * k, y[t]);
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
