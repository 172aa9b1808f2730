// SPDX-License-Identifier: Apache-2.0
// An endless stream over a finite set: every epoch visits every element once, in an order of its own. Which element a
// draw gives is a pure function of (seed, set, draw): the state of a reader is one integer.
#pragma once

#include <cstdint>

#include "core/base/rng.h"

namespace conclave::data {

// Element of [0, size) that draw number `draw` of set `set` gives.
inline int64_t DrawElement(uint64_t seed, int64_t set, int64_t size, int64_t draw) {
  const uint64_t stream = (static_cast<uint64_t>(set) << 32) + static_cast<uint64_t>(draw / size);
  const core::KeyedPermutation order(core::RandomKey(seed, core::RandomPurpose::kDataOrder, stream),
                                     static_cast<uint64_t>(size));
  return static_cast<int64_t>(order(static_cast<uint64_t>(draw % size)));
}

}  // namespace conclave::data
