// SPDX-License-Identifier: Apache-2.0
// Is a schedule one that ranks can follow, and what it takes to do so.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "parallel/schedule.h"
#include "parallel/schedule_order.h"

namespace conclave::parallel {
namespace {

constexpr int kRanksInAMessage = 4;

template <class... Args>
absl::Status Invalid(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

int64_t CountActions(const Schedule& schedule) {
  int64_t actions = 0;
  for (const std::vector<Cell>& cells : schedule.cells) {
    for (const Cell& cell : cells) actions += cell.second ? 2 : 1;
  }
  return actions;
}

absl::Status CheckCounts(const Schedule& schedule) {
  const int ranks = schedule.num_ranks, stages = schedule.num_stages;
  if (ranks < 1 || stages < 1 || schedule.num_micro < 1) {
    return Invalid("%d ranks, %d stages and %d micro-batches: each must be at least 1", ranks, stages,
                   schedule.num_micro);
  }
  if (schedule.cells.size() != static_cast<size_t>(ranks)) {
    return Invalid("lists of %d ranks, but there are %d ranks", schedule.cells.size(), ranks);
  }
  if (schedule.placement == Placement::kLoop && stages % ranks != 0) {
    return Invalid("%d stages cannot be dealt out evenly to %d ranks", stages, ranks);
  }
  if (schedule.placement == Placement::kV && stages != 2 * ranks) {
    return Invalid("a V on %d ranks has %d stages, not %d", ranks, 2 * ranks, stages);
  }
  if (schedule.placement == Placement::kMirror && stages != ranks) {
    return Invalid("two mirrored copies on %d ranks have %d stages, not %d", ranks, ranks, stages);
  }
  // Whoever sizes an array by stages and micro-batches may rely on it from here on.
  if (const int64_t actions = CountActions(schedule); actions / stages < schedule.num_micro) {
    return Invalid("%d actions are too few for %d stages and %d micro-batches", actions, stages, schedule.num_micro);
  }
  return absl::OkStatus();
}

absl::Status CheckPlace(const Schedule& schedule, const Action& action, int rank) {
  const std::string text = ActionText(action);
  if (action.stage < 0 || action.stage >= schedule.num_stages) {
    return Invalid("rank %d: %s: stages are 0 .. %d", rank, text, schedule.num_stages - 1);
  }
  if (action.micro < 0 || action.micro >= schedule.num_micro) {
    return Invalid("rank %d: %s: micro-batches are 0 .. %d", rank, text, schedule.num_micro - 1);
  }
  if (const int home = schedule.RankOf(action.stage, action.micro); home != rank) {
    return Invalid("rank %d: %s belongs to rank %d", rank, text, home);
  }
  if (schedule.purpose == Purpose::kValidation && action.verb != Verb::kForward) {
    return Invalid("rank %d: %s: validation runs forward only", rank, text);
  }
  return absl::OkStatus();
}

bool IsBackward(Verb verb) { return verb == Verb::kBackward || verb == Verb::kBackwardInput; }

// How often each result is made: B makes an input gradient and a weight gradient.
absl::StatusOr<std::vector<uint8_t>> CountResults(const Schedule& schedule) {
  std::vector<uint8_t> made(NumResults(schedule));
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    for (const Cell& cell : schedule.cells[rank]) {
      if (cell.second && (cell.first.verb != Verb::kForward || !IsBackward(cell.second->verb))) {
        return Invalid("rank %d: %s: a forward may overlap with a backward that follows it, nothing else", rank,
                       CellText(cell));
      }
      absl::Status status;
      ForEachAction(cell, [&](const Action& action) {
        if (status.ok()) status = CheckPlace(schedule, action, rank);
        if (!status.ok()) return;
        bool twice = ++made[ResultIndex(schedule, action)] > 1;
        if (action.verb == Verb::kBackward) {
          twice |= ++made[ResultIndex(schedule, {Verb::kBackwardWeight, action.stage, action.micro})] > 1;
        }
        if (twice) {
          status = Invalid("rank %d: %s makes again what an action before it has made", rank, ActionText(action));
        }
      });
      RETURN_IF_ERROR(status);
    }
  }
  return made;
}

absl::Status CheckComplete(const Schedule& schedule, const std::vector<uint8_t>& made) {
  const bool training = schedule.purpose == Purpose::kTraining;
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    for (int micro = 0; micro < schedule.num_micro; ++micro) {
      for (const Verb verb : {Verb::kForward, Verb::kBackwardInput, Verb::kBackwardWeight}) {
        const Action action{verb, stage, micro};
        if ((verb != Verb::kForward && !training) || made[ResultIndex(schedule, action)] > 0) continue;
        return Invalid("rank %d: %s is missing", schedule.RankOf(stage, micro), ActionText(action));
      }
    }
  }
  return absl::OkStatus();
}

// What the cell where a rank stopped waits for.
std::string WaitText(const Schedule& schedule, const Cell& cell, const std::vector<bool>& done) {
  std::string text;
  ForEachAction(cell, [&](const Action& action) {
    ForEachDependency(schedule, action, [&](const Action& needed) {
      if (text.empty() && !done[ResultIndex(schedule, needed)]) {
        text = absl::StrFormat("%s waits for %s of rank %d", ActionText(action), ActionText(needed),
                               schedule.RankOf(needed.stage, needed.micro));
      }
    });
  });
  return text;
}

absl::Status CheckProgress(const Schedule& schedule) {
  std::vector<bool> done(NumResults(schedule));
  const std::vector<size_t> reached = WalkInOrder(schedule, [&](int, const Cell& cell) {
    ForEachAction(cell, [&](const Action& action) { done[ResultIndex(schedule, action)] = true; });
  });
  std::string waits;
  int stuck = 0;
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    const std::vector<Cell>& cells = schedule.cells[rank];
    if (reached[rank] == cells.size() || ++stuck > kRanksInAMessage) continue;
    waits +=
        absl::StrFormat("%s rank %d: %s", stuck > 1 ? ";" : "", rank, WaitText(schedule, cells[reached[rank]], done));
  }
  if (stuck == 0) return absl::OkStatus();
  if (stuck > kRanksInAMessage) waits += absl::StrFormat("; and %d more ranks", stuck - kRanksInAMessage);
  return Invalid("deadlock:%s", waits);
}

}  // namespace

absl::Status ValidateSchedule(const Schedule& schedule) {
  RETURN_IF_ERROR(CheckCounts(schedule));
  ASSIGN_OR_RETURN(const std::vector<uint8_t> made, CountResults(schedule));
  RETURN_IF_ERROR(CheckComplete(schedule, made));
  return CheckProgress(schedule);
}

RankSlots CountSlots(const Schedule& schedule, int rank) {
  const std::vector<int> stages = schedule.StagesOf(rank);
  RankSlots peak{.chunks = std::vector<Slots>(stages.size())};
  RankSlots now = peak;
  const auto add = [&](int chunk, int Slots::*lifetime, int change) {
    now.chunks[chunk].*lifetime += change;
    now.together.*lifetime += change;
    peak.chunks[chunk].*lifetime = std::max(peak.chunks[chunk].*lifetime, now.chunks[chunk].*lifetime);
    peak.together.*lifetime = std::max(peak.together.*lifetime, now.together.*lifetime);
  };
  for (const Cell& cell : schedule.cells[rank]) {
    ForEachAction(cell, [&](const Action& action) {
      const int chunk = static_cast<int>(std::find(stages.begin(), stages.end(), action.stage) - stages.begin());
      const int change = action.verb == Verb::kForward ? 1 : -1;
      if (action.verb != Verb::kBackwardWeight) add(chunk, &Slots::until_input_grad, change);
      if (action.verb != Verb::kBackwardInput) add(chunk, &Slots::until_weight_grad, change);
    });
  }
  return peak;
}

}  // namespace conclave::parallel
