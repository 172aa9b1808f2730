// SPDX-License-Identifier: Apache-2.0
// A slow network on top of a fast transport, to test what runs beside an operation: each ends no earlier than its begin
// plus a time that grows with its bytes. Wait sleeps for what is left of it. Operations do not slow each other down.
#pragma once

#include <memory>
#include <string>

#include "parallel/comm.h"

namespace conclave::parallel {

struct Delay {
  double seconds_per_operation = 0;
  double seconds_per_byte = 0;  // of the more of what this rank sends to others and receives from them
  std::string group = {};       // only of groups of this name and what is split off from them; empty: of all
};

// Groups that are split off are delayed by the same rule.
std::unique_ptr<Comm> MakeDelayComm(std::unique_ptr<Comm> inner, const Delay& delay);

}  // namespace conclave::parallel
