// SPDX-License-Identifier: Apache-2.0
#include "core/device/cpu/cpu_kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool) { return std::make_unique<CpuKernels>(pool); }

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
