// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <tuple>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/config/nearest.h"
#include "parallel/schedules/schedules.h"

namespace conclave::parallel {
namespace {

constexpr int kMostForwards = 1 << 22;  // of all ranks: some hundred MiB of cells

struct Kind {
  Placement placement;
  std::vector<Cell> (*make)(const ScheduleShape&, int rank);
};

constexpr Kind kKinds[] = {
    // in the order of kScheduleNames
    {Placement::kLoop, OneForwardOneBackward},
    {Placement::kLoop, Interleaved},
    {Placement::kLoop, ZeroBubbleH1},
    {Placement::kV, ZeroBubbleV},
    {Placement::kMirror, DualPipe},
    {Placement::kV, DualPipeV},
};
static_assert(std::size(kKinds) == std::size(kScheduleNames));

const Kind* FindKind(std::string_view name) {
  const auto* found = std::find(std::begin(kScheduleNames), std::end(kScheduleNames), name);
  return found == std::end(kScheduleNames) ? nullptr : &kKinds[found - std::begin(kScheduleNames)];
}

int ChunksPerRank(std::string_view name, const ScheduleShape& shape) {
  if (name == "interleaved") return shape.virtual_stages;
  const Kind* kind = FindKind(name);
  CHECK(kind != nullptr);
  return kind->placement == Placement::kV ? 2 : 1;
}

absl::Status UnknownName(std::string_view name) {
  const std::vector<std::string> names(std::begin(kScheduleNames), std::end(kScheduleNames));
  const std::string_view nearest = core::Nearest(name, names);
  return absl::InvalidArgumentError(absl::StrFormat(
      "unknown schedule %s%s; choose from %s", name,
      nearest.empty() ? "" : absl::StrFormat(" (did you mean %s?)", nearest), absl::StrJoin(names, ", ")));
}

template <class... Args>
absl::Status Illegal(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

// Rules of one schedule; counts are positive.
absl::Status CheckRules(std::string_view name, const ScheduleShape& shape) {
  const int ranks = shape.num_ranks, micro = shape.num_micro;
  if (name == "interleaved") {
    if (shape.virtual_stages < 2) {
      return Illegal("interleaved needs at least 2 chunks per rank, not %d; 1f1b is the schedule of one",
                     shape.virtual_stages);
    }
    if (micro % ranks != 0) {
      return Illegal(
          "interleaved sends micro-batches round in groups of %d, one per rank: %d is no multiple of that; take %d",
          ranks, micro, (micro / ranks + 1) * ranks);
    }
  }
  if (name == "dualpipe") {
    if (ranks % 2 != 0) {
      return Illegal(
          "dualpipe pairs rank r with rank P - 1 - r: it needs an even number of ranks, not %d; dualpipev "
          "takes any",
          ranks);
    }
    if (micro % 2 != 0) {
      return Illegal("dualpipe lets half of the micro-batches enter at each end: it needs an even number, not %d",
                     micro);
    }
  }
  if (name.starts_with("dualpipe") && micro < 2 * ranks) {
    return Illegal(
        "%s on %d ranks needs at least %d micro-batches (2 per rank) to have forwards and backwards to pair, not %d; "
        "take more, or 1f1b",
        name, ranks, 2 * ranks, micro);
  }
  if (name.starts_with("zb") && micro < ranks) {
    return Illegal(
        "%s on %d ranks needs at least %d micro-batches (1 per rank) to fill its bubbles, not %d; take "
        "more, or 1f1b",
        name, ranks, ranks, micro);
  }
  return absl::OkStatus();
}

// Micro-batches count from the end where they enter.
int StepOf(const Schedule& schedule, const Action& action) {
  const int half = schedule.num_micro / 2;
  return action.stage +
         (schedule.placement == Placement::kMirror && action.micro >= half ? action.micro - half : action.micro);
}

}  // namespace

absl::Status CheckShape(std::string_view name, const ScheduleShape& shape) {
  if (FindKind(name) == nullptr) return UnknownName(name);
  if (shape.num_ranks < 1) return Illegal("a pipeline needs at least 1 rank, not %d", shape.num_ranks);
  if (shape.num_micro < 1) return Illegal("a step needs at least 1 micro-batch, not %d", shape.num_micro);
  const int chunks = ChunksPerRank(name, shape);
  if (1.0 * shape.num_ranks * chunks * shape.num_micro > kMostForwards) {
    return Illegal("%d ranks x %d chunks x %d micro-batches are more than the %d forwards that a schedule may have",
                   shape.num_ranks, chunks, shape.num_micro, kMostForwards);
  }
  return CheckRules(name, shape);
}

int NumStages(std::string_view name, const ScheduleShape& shape) {
  return shape.num_ranks * ChunksPerRank(name, shape);
}

absl::StatusOr<Schedule> MakeSchedule(std::string_view name, const ScheduleShape& shape) {
  RETURN_IF_ERROR(CheckShape(name, shape));
  const Kind& kind = *FindKind(name);
  Schedule schedule{.name = std::string(name),
                    .num_ranks = shape.num_ranks,
                    .num_stages = NumStages(name, shape),
                    .num_micro = shape.num_micro,
                    .placement = kind.placement};
  for (int rank = 0; rank < shape.num_ranks; ++rank) schedule.cells.push_back(kind.make(shape, rank));
  return schedule;
}

// A forward waits only for one of an earlier step, and every rank goes by steps: no deadlock is possible.
Schedule MakeForwardSchedule(const Schedule& like, int num_micro) {
  CHECK_GE(num_micro, 1);
  Schedule schedule = like;
  schedule.num_micro = num_micro;
  schedule.purpose = Purpose::kValidation;
  schedule.cells.assign(like.num_ranks, {});
  for (int stage = 0; stage < like.num_stages; ++stage) {
    for (int micro = 0; micro < num_micro; ++micro) {
      schedule.cells[schedule.RankOf(stage, micro)].push_back({{Verb::kForward, stage, micro}});
    }
  }
  for (std::vector<Cell>& cells : schedule.cells) {
    std::sort(cells.begin(), cells.end(), [&schedule](const Cell& a, const Cell& b) {
      // Later stages first: what a rank keeps for its own next stage goes before it makes more.
      return std::tuple(StepOf(schedule, a.first), b.first.stage, a.first.micro) <
             std::tuple(StepOf(schedule, b.first), a.first.stage, b.first.micro);
    });
  }
  return schedule;
}

}  // namespace conclave::parallel
