// SPDX-License-Identifier: Apache-2.0
// What happens to a parameter at the end of a step, elementwise in f32. AdamW in PyTorch's order of operations, each
// line one rounding per operation shown (fma = one for both), so that all targets agree:
//   g = clip * float(sum);  p = (1 - lr wd) * p;  m = fma(1 - b1, g - m, m);  v = fma((1 - b2) * g, g, b2 * v)
//   p = p - ((lr / c1) * m) / (sqrt(v) / sqrt(c2) + eps)
// Moments in bf16 are rounded once, when they are stored: p moves by what they were before.
#include <algorithm>
#include <initializer_list>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gradient_load.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kGrain = 16384;  // elements of one chunk; a multiple of kLanes

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

template <class Sum, class Moment>
void UpdateRange(const AdamWFactors& f, int64_t n, Sum* gradient, float* master, Moment* m, Moment* v) {
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 g = f.clip * ToFloat(LoadGradient(gradient + i, lanes)), old_m = LoadLanes(m + i, lanes);
    const F32x16 new_m = Fma(f.one_minus_beta1, g - old_m, old_m);
    const F32x16 new_v = Fma(f.one_minus_beta2 * g, g, f.beta2 * LoadLanes(v + i, lanes));
    const F32x16 root = Sqrt(new_v) / f.root_of_correction2 + f.eps;
    StoreLanes(m + i, new_m, lanes);
    StoreLanes(v + i, new_v, lanes);
    StoreLanes(master + i, f.keep * LoadLanes(master + i, lanes) - f.step * new_m / root, lanes);
    std::fill_n(gradient + i, lanes.lanes, Sum{});
  });
}

}  // namespace

void CpuKernels::AdamW(const AdamWArgs& args) {
  const int64_t n = args.gradient.Elements();
  CHECK(args.gradient.Contiguous() && args.master.dtype == DType::kF32 && args.m.dtype == args.v.dtype);
  for (const Tensor* tensor : {&args.master, &args.m, &args.v}) {
    CHECK(tensor->Contiguous());
    CHECK_EQ(tensor->Elements(), n);
  }
  const AdamWFactors factors(args);
  const auto run = [&]<class Sum, class Moment>(Sum, Moment) {
    pool_.ParallelFor(n, kGrain, [&](int64_t begin, int64_t end, int) {
      UpdateRange(factors, end - begin, args.gradient.As<Sum>() + begin, args.master.As<float>() + begin,
                  args.m.As<Moment>() + begin, args.v.As<Moment>() + begin);
    });
  };
  DispatchSum(args.gradient.dtype,
              [&](auto sum) { DispatchFloat(args.m.dtype, [&](auto moment) { run(sum, moment); }); });
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
