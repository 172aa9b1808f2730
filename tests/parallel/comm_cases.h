// SPDX-License-Identifier: Apache-2.0
// What every transport must do, as functions that all ranks of a communicator call: tests run them on threads and under
// mpirun. Contents are functions of who sends what to whom, so each rank knows what it must receive.
#pragma once

#include <span>

#include "parallel/comm.h"

namespace conclave::parallel::test {

struct CommCase {
  const char* name;
  void (*run)(Comm& comm);
};

std::span<const CommCase> CommCases();

}  // namespace conclave::parallel::test
