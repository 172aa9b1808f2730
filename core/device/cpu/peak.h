// SPDX-License-Identifier: Apache-2.0
// What the processors can do at best, measured: what the speed of an operation is a share of. Compiled once, for plain
// x86-64; the instruction set is the best of the machine, whichever the kernels use.
#pragma once

#include "core/tensor/dtype.h"

namespace conclave::core::cpu {

// FLOP/s of multiply-adds in registers, on `num_threads` threads at once; the best of many tries. bf16: those of
// AMX or else of vdpbf16ps, where the machine has it and they are faster than those of floats. Takes half a second.
double MeasurePeakFlops(DType dtype, int num_threads);
// One try, half a millisecond for each kind: what the processors do just now, less than the peak where others use them.
double SamplePeakFlops(DType dtype, int num_threads);

// Median of the seconds in which memcpy reads bytes / 2 and writes bytes / 2, in all threads together.
double MeasureCopySeconds(double bytes, int num_threads);

}  // namespace conclave::core::cpu
