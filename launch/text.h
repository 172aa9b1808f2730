// SPDX-License-Identifier: Apache-2.0
// Numbers as a person reads them.
#pragma once

#include <cstdint>
#include <string>

namespace conclave::launch {

std::string CountText(int64_t count);         // 1,234,567
std::string BytesText(int64_t bytes);         // 3.2 MiB
std::string DurationText(double seconds);     // 0:07, 12:34, 1:02:03
std::string FlopText(double flops);           // 12.3 GFLOP
std::string FlopRateText(double per_second);  // 12.3 GFLOP/s

}  // namespace conclave::launch
