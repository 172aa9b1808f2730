// SPDX-License-Identifier: Apache-2.0
// Sorting of 64-bit keys, compiled once for every x86-64 machine. Instances of standard templates are symbols that the linker
// shares between objects; one made for AVX-512 must not end up in the code of another machine (tests/no_libm_test.py).
#pragma once

#include <cstdint>

namespace conclave::core {

void SortKeys(uint64_t* begin, uint64_t* end);  // ascending
// The smallest (middle - begin) keys come first, in any order, and *middle is the next one, as with std::nth_element.
void SelectKeys(uint64_t* begin, uint64_t* middle, uint64_t* end);

}  // namespace conclave::core
