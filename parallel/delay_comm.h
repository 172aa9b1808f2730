// SPDX-License-Identifier: Apache-2.0
// A slow network on top of a fast transport, to test what runs beside an operation: each ends no earlier than its begin
// plus a time that grows with its bytes. Wait sleeps for what is left of it. Operations do not slow each other down.
#pragma once

#include <memory>

#include "parallel/comm.h"

namespace conclave::parallel {

struct Delay {
  double seconds_per_operation = 0;
  double seconds_per_byte = 0;  // of the more of what this rank sends to others and receives from them
};

// Groups that are split off are as slow.
std::unique_ptr<Comm> MakeDelayComm(std::unique_ptr<Comm> inner, const Delay& delay);

}  // namespace conclave::parallel
