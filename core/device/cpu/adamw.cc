// SPDX-License-Identifier: Apache-2.0
// What happens to a parameter at the end of a step, elementwise in f32. AdamW in PyTorch's order of operations, each
// line one rounding per operation shown (fma = one for both), so that all targets agree:
//   g = clip * float(sum);  p = (1 - lr wd) * p;  m = fma(1 - b1, g - m, m);  v = fma((1 - b2) * g, g, b2 * v)
//   p = p - ((lr / c1) * m) / (sqrt(v) / sqrt(c2) + eps)
#include <algorithm>
#include <initializer_list>

#include "core/base/check.h"
#include "core/base/fixed_sum.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kGrain = 16384;  // elements of one chunk; a multiple of kLanes

// GradientToFloat of 16 sums. An i64 becomes a double with one rounding: AVX-512 has the instruction. AVX2 puts the
// halves into the mantissas of 2^84 + high 2^32 (sign bit flipped) and 2^52 + low; removing the constants from the
// first is exact, and adding the second rounds once.
F32x16 LoadGradient(const int64_t* sum) {
#if defined(__AVX512F__)
  const __m512d unit = _mm512_set1_pd(kGradientUnit);
  const __m256 low = _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtepi64_pd(_mm512_loadu_si512(sum)), unit));
  const __m256 high = _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtepi64_pd(_mm512_loadu_si512(sum + 8)), unit));
  return {_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1)};
#elif defined(__AVX2__)
  const __m256i low_base = _mm256_set1_epi64x(0x4330000000000000);                   // 2^52
  const __m256i high_base = _mm256_set1_epi64x(0x4530000080000000);                  // 2^84 + 2^63
  const __m256d both = _mm256_castsi256_pd(_mm256_set1_epi64x(0x4530000080100000));  // 2^84 + 2^63 + 2^52
  __m128 quarters[4];
  for (int i = 0; i < 4; ++i) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sum + 4 * i));
    const __m256d low = _mm256_castsi256_pd(_mm256_blend_epi32(low_base, x, 0x55));
    const __m256d high = _mm256_castsi256_pd(_mm256_xor_si256(_mm256_srli_epi64(x, 32), high_base));
    const __m256d value = _mm256_add_pd(_mm256_sub_pd(high, both), low);
    quarters[i] = _mm256_cvtpd_ps(_mm256_mul_pd(value, _mm256_set1_pd(kGradientUnit)));
  }
  return {_mm256_set_m128(quarters[1], quarters[0]), _mm256_set_m128(quarters[3], quarters[2])};
#else
  F32x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = GradientToFloat(sum[i]);
  return y;
#endif
}

F32x16 LoadGradientLanes(const int64_t* sum, WholeVector) { return LoadGradient(sum); }
F32x16 LoadGradientLanes(const int64_t* sum, PartOfVector part) {
  int64_t padded[kLanes] = {};
  std::copy_n(sum, part.lanes, padded);
  return LoadGradient(padded);
}

struct AdamWFactors {
  F32x16 clip, keep, step, one_minus_beta1, beta2, one_minus_beta2, root_of_correction2, eps;

  explicit AdamWFactors(const AdamWArgs& args)
      : clip(Set(args.clip)),
        keep(Set(1.0f - args.lr * args.weight_decay)),
        step(Set(args.lr / args.correction1)),
        one_minus_beta1(Set(1.0f - args.beta1)),
        beta2(Set(args.beta2)),
        one_minus_beta2(Set(1.0f - args.beta2)),
        root_of_correction2(Sqrt(Set(args.correction2))),
        eps(Set(args.eps)) {}
};

void UpdateRange(const AdamWFactors& f, int64_t n, int64_t* gradient, float* master, float* m, float* v) {
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 g = f.clip * LoadGradientLanes(gradient + i, lanes), old_m = LoadLanes(m + i, lanes);
    const F32x16 new_m = Fma(f.one_minus_beta1, g - old_m, old_m);
    const F32x16 new_v = Fma(f.one_minus_beta2 * g, g, f.beta2 * LoadLanes(v + i, lanes));
    const F32x16 root = Sqrt(new_v) / f.root_of_correction2 + f.eps;
    StoreLanes(m + i, new_m, lanes);
    StoreLanes(v + i, new_v, lanes);
    StoreLanes(master + i, f.keep * LoadLanes(master + i, lanes) - f.step * new_m / root, lanes);
  });
  std::fill_n(gradient, n, 0);
}

}  // namespace

void CpuKernels::AdamW(const AdamWArgs& args) {
  const int64_t n = args.gradient.Elements();
  CHECK(args.gradient.dtype == DType::kI64 && args.gradient.Contiguous());
  for (const Tensor* tensor : {&args.master, &args.m, &args.v}) {
    CHECK(tensor->dtype == DType::kF32 && tensor->Contiguous());
    CHECK_EQ(tensor->Elements(), n);
  }
  const AdamWFactors factors(args);
  pool_.ParallelFor(n, kGrain, [&](int64_t begin, int64_t end, int) {
    UpdateRange(factors, end - begin, args.gradient.As<int64_t>() + begin, args.master.As<float>() + begin,
                args.m.As<float>() + begin, args.v.As<float>() + begin);
  });
}

void CpuKernels::Ema(Tensor master, float decay, Tensor ema) {
  CHECK(master.dtype == DType::kF32 && master.Contiguous() && ema.dtype == DType::kF32 && ema.Contiguous());
  CHECK_EQ(master.Elements(), ema.Elements());
  const F32x16 share = Set(1.0f - decay);
  const float* from = master.As<float>();
  float* to = ema.As<float>();
  pool_.ParallelFor(master.Elements(), kGrain, [&](int64_t begin, int64_t end, int) {
    ForEachVector(end - begin, [&](int64_t i, auto lanes) {
      const F32x16 old = LoadLanes(to + begin + i, lanes);
      StoreLanes(to + begin + i, Fma(share, LoadLanes(from + begin + i, lanes) - old, old), lanes);
    });
  });
}

void CpuKernels::UpdateRouterBias(Tensor load, float speed, Tensor bias) {
  const int64_t experts = load.Elements();
  CHECK(load.dtype == DType::kI64 && bias.dtype == DType::kF32);
  CHECK_EQ(bias.Elements(), experts);
  const int64_t* count = load.As<int64_t>();
  int64_t total = 0;
  for (int64_t e = 0; e < experts; ++e) total += count[e];
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t lack = total - experts * count[e];  // below the mean if positive
    if (lack != 0) bias.As<float>()[e] += lack > 0 ? speed : -speed;
  }
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
