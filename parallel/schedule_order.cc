// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule_order.h"

#include <algorithm>

namespace conclave::parallel {
namespace {

bool IsReady(const Schedule& schedule, const Cell& cell, const std::vector<bool>& done) {
  bool ready = true;
  ForEachAction(cell, [&](const Action& action) {
    ForEachDependency(schedule, action, [&](const Action& needed) { ready &= done[ResultIndex(schedule, needed)]; });
  });
  return ready;
}

// Results of `from` that cells of `to` wait for.
struct Messages {
  std::vector<bool> is_sent;        // by result
  std::vector<int> received = {0};  // [cells + 1]: by the first n cells of `to`
};

Messages ListMessages(const Schedule& schedule, int from, int to) {
  Messages messages{.is_sent = std::vector<bool>(NumResults(schedule))};
  for (const Cell& cell : schedule.cells[to]) {
    int received = messages.received.back();
    ForEachAction(cell, [&](const Action& action) {
      ForEachDependency(schedule, action, [&](const Action& needed) {
        if (schedule.RankOf(needed.stage, needed.micro) != from) return;
        messages.is_sent[ResultIndex(schedule, needed)] = true;
        ++received;
      });
    });
    messages.received.push_back(received);
  }
  return messages;
}

}  // namespace

void ForEachDependency(const Schedule& schedule, const Action& action,
                       absl::FunctionRef<void(const Action&)> visit) {
  const auto [verb, stage, micro] = action;
  switch (verb) {
    case Verb::kForward:
      if (stage > 0) visit({Verb::kForward, stage - 1, micro});
      return;
    case Verb::kBackward:
    case Verb::kBackwardInput:
      visit({Verb::kForward, stage, micro});
      if (stage + 1 < schedule.num_stages) visit({Verb::kBackwardInput, stage + 1, micro});
      return;
    case Verb::kBackwardWeight:
      visit({Verb::kBackwardInput, stage, micro});
      return;
  }
}

int64_t ResultIndex(const Schedule& schedule, const Action& action) {
  const int64_t kind = action.verb == Verb::kForward ? 0 : action.verb == Verb::kBackwardWeight ? 2 : 1;
  return (kind * schedule.num_stages + action.stage) * schedule.num_micro + action.micro;
}

int64_t NumResults(const Schedule& schedule) { return int64_t{3} * schedule.num_stages * schedule.num_micro; }

std::vector<size_t> WalkInOrder(const Schedule& schedule, const std::function<void(int rank, const Cell&)>& visit) {
  std::vector<size_t> next(schedule.cells.size());
  std::vector<bool> done(NumResults(schedule));
  bool progress = true;
  while (progress) {
    progress = false;
    for (size_t rank = 0; rank < schedule.cells.size(); ++rank) {
      const std::vector<Cell>& cells = schedule.cells[rank];
      for (; next[rank] < cells.size() && IsReady(schedule, cells[next[rank]], done); ++next[rank]) {
        visit(static_cast<int>(rank), cells[next[rank]]);
        ForEachAction(cells[next[rank]], [&](const Action& action) { done[ResultIndex(schedule, action)] = true; });
        progress = true;
      }
    }
  }
  return next;
}

// Timing may be anything that the dependencies allow, so what counts is causality: when a cell of `from` runs, those
// cells of `to` are surely over that lie in its past. They are a prefix of the list of `to`, hence a number.
int MaxMessagesInFlight(const Schedule& schedule, int from, int to) {
  if (from == to) return 0;
  const Messages messages = ListMessages(schedule, from, to);
  std::vector<int> past_of_rank(schedule.cells.size()), past_of_result(NumResults(schedule));
  int sent = 0, most = 0;
  WalkInOrder(schedule, [&](int rank, const Cell& cell) {
    int& past = past_of_rank[rank];
    ForEachAction(cell, [&](const Action& action) {
      ForEachDependency(schedule, action, [&](const Action& needed) {
        past = std::max(past, past_of_result[ResultIndex(schedule, needed)]);
      });
    });
    if (rank == to) ++past;
    ForEachAction(cell, [&](const Action& action) {
      past_of_result[ResultIndex(schedule, action)] = past;
      if (rank == from) sent += messages.is_sent[ResultIndex(schedule, action)];
    });
    if (rank == from) most = std::max(most, sent - messages.received[past]);
  });
  return most;
}

}  // namespace conclave::parallel
