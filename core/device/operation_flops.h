// SPDX-License-Identifier: Apache-2.0
// FLOPs of an operation, from its arguments alone: what the memory plan counts before a run and a profile divides by
// the time. Multiply-adds count 2; attention counts causal pairs once; routed rows at their bound. Operations that have
// no function here are bound by memory.
#pragma once

#include "core/device/kernels.h"

namespace conclave::core {

inline double OperationFlops(const GemmArgs& args) { return 2.0 * args.x.size(0) * args.w.out * args.w.in; }

inline double OperationFlops(const GroupedGemmArgs& args) { return 2.0 * args.x.size(0) * args.w.out * args.w.in; }

inline double OperationFlops(const HeadGemmArgs& args) {
  return 2.0 * args.x.size(0) * args.w.matrices * args.w.out * args.w.in;
}

inline double OperationFlops(const WeightGradArgs& args) {
  return 2.0 * args.x.size(0) * args.x.size(1) * args.dy.size(1);
}

inline double OperationFlops(const AttentionArgs& args) {
  const double pairs = 0.5 * args.q.size(1) * args.q.size(1);
  return 2.0 * args.q.size(0) * args.q.size(2) * pairs * (args.q.size(3) + args.v.size(3));
}

inline double OperationFlops(const AttentionBackwardArgs& args) { return 2 * OperationFlops(args.forward); }

inline double OperationFlops(const CrossEntropyArgs& args) {
  return (args.dx ? 6.0 : 2.0) * args.x.size(0) * args.head.out * args.head.in;
}

inline double OperationFlops(const DivergenceArgs& args) {
  return OperationFlops(args.student) + 2.0 * args.teacher_x.size(0) * args.teacher_head.out * args.teacher_head.in;
}

}  // namespace conclave::core
