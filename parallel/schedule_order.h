// SPDX-License-Identifier: Apache-2.0
// What must happen before what. ForEachDependency is the only place that knows the rule: validator, simulator and
// executor call it. Actions wait for results: an output, an input gradient, a weight gradient. B makes the latter two
// at once, so whoever needs an input gradient need not know whether B or I made it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/functional/function_ref.h"

#include "parallel/action.h"

namespace conclave::parallel {

// Calls `visit` with each action whose result must be there before `action` may begin. An input gradient is visited as
// kBackwardInput, whichever of B and I makes it: ResultIndex is the same.
void ForEachDependency(const Schedule& schedule, const Action& action, absl::FunctionRef<void(const Action&)> visit);

// A number for what the action makes, below NumResults: for flags and times by result. B has that of I. The action's
// stage and micro-batch must be in range.
int64_t ResultIndex(const Schedule& schedule, const Action& action);
int64_t NumResults(const Schedule& schedule);

// Visits cells in an order in which they can run if each rank runs its list strictly in order. Returns how many cells
// of each rank could run: all, unless there is a deadlock.
std::vector<size_t> WalkInOrder(const Schedule& schedule, const std::function<void(int rank, const Cell&)>& visit);

// How many messages of `from` to `to` are sent but not received at most, whatever the speed of ranks and network. A
// message is received when the cell that needs it is over. With so many buffers no send ever waits. The schedule must
// be valid.
int MaxMessagesInFlight(const Schedule& schedule, int from, int to);

}  // namespace conclave::parallel
