// SPDX-License-Identifier: Apache-2.0
#include "core/device/cpu/sort_keys.h"

#include <algorithm>

namespace conclave::core {

void SortKeys(uint64_t* begin, uint64_t* end) { std::sort(begin, end); }
void SelectKeys(uint64_t* begin, uint64_t* middle, uint64_t* end) { std::nth_element(begin, middle, end); }

}  // namespace conclave::core
