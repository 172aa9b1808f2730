// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of one process, for tests and for comparing layouts; a single one is a rank alone (MakeSelfComm).
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm.h"

namespace conclave::parallel {

// The communicators "world" of n ranks; each is used by one thread at a time.
std::vector<std::unique_ptr<Comm>> MakeThreadComms(int n);

}  // namespace conclave::parallel
