// SPDX-License-Identifier: Apache-2.0
#include "parallel/borders.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "parallel/schedule_order.h"

namespace conclave::parallel {

using core::Tensor;

namespace {

// Input gradients that another stage of this rank has yet to take.
int64_t CountKept(const Schedule& schedule, int rank) {
  int64_t kept = 0, most = 0;
  for (const Cell& cell : schedule.cells[rank]) {
    ForEachAction(cell, [&](const Action& action) {
      if (action.verb != Verb::kBackward && action.verb != Verb::kBackwardInput) return;
      const auto is_here = [&](int stage) {
        return stage >= 0 && stage < schedule.num_stages && schedule.RankOf(stage, action.micro) == rank;
      };
      kept += is_here(action.stage - 1);
      most = std::max(most, kept);
      kept -= is_here(action.stage + 1);
    });
  }
  return most;
}

int64_t CountIncoming(const Schedule& schedule, int rank) {
  int64_t before = 0, most = 0;
  for (const Cell& cell : schedule.cells[rank]) {
    int64_t here = 0;
    ForEachAction(cell, [&](const Action& action) {
      ForEachMessage(schedule, rank, action, [&here](const Action&) { ++here; });
    });
    most = std::max(most, before + here);
    before = here;
  }
  return most;
}

}  // namespace

void BorderCounts::CoverAlso(const BorderCounts& other) {
  incoming = std::max(incoming, other.incoming);
  kept = std::max(kept, other.kept);
  outgoing = std::max(outgoing, other.outgoing);
}

void ForEachMessage(const Schedule& schedule, int rank, const Action& action,
                    absl::FunctionRef<void(const Action&)> visit) {
  ForEachDependency(schedule, action, [&](const Action& made) {
    if (schedule.RankOf(made.stage, made.micro) != rank) visit(made);
  });
}

BorderCounts CountBorders(const Schedule& schedule, int rank) {
  BorderCounts counts{.incoming = CountIncoming(schedule, rank), .kept = CountKept(schedule, rank)};
  for (int to = 0; to < schedule.num_ranks; ++to) counts.outgoing += MaxMessagesInFlight(schedule, rank, to);
  return counts;
}

absl::StatusOr<std::unique_ptr<Borders>> Borders::Create(core::Model& model, Comm& pipeline, const BorderCounts& counts,
                                                         int64_t tokens) {
  std::unique_ptr<Borders> borders(new Borders(model, pipeline));
  const int64_t hidden = model.config().hidden_size, bytes = tokens * hidden * core::SizeOf(model.dtype());
  const int64_t held = counts.incoming + counts.kept;
  ASSIGN_OR_RETURN(borders->memory_,
                   model.device().Allocate((held + counts.outgoing) * bytes, "activations between stages"));
  char* next = static_cast<char*>(borders->memory_->data());
  for (int64_t i = 0; i < held + counts.outgoing; ++i, next += bytes) {
    const Tensor x(next, model.dtype(), {tokens, hidden});
    i < held ? borders->held_.push_back({x}) : borders->outgoing_.push_back({x, {}});
  }
  return borders;
}

Borders::Held& Borders::Free(int tag) {
  const auto free = std::find_if(held_.begin(), held_.end(), [](const Held& held) { return held.tag < 0; });
  CHECK(free != held_.end());
  free->tag = tag;
  return *free;
}

void Borders::Expect(int tag, int from, int64_t tokens) {
  if (tokens == 0) return;
  Held& held = Free(tag);
  held.ticket = pipeline_.Receive(model_.stream(), held.x.Slice(0, 0, tokens), from, tag);
}

void Borders::Keep(int tag, Tensor x) {
  if (x.Elements() == 0) return;
  model_.kernels().Cast(x, Free(tag).x.Slice(0, 0, x.size(0)));
}

void Borders::Take(int tag, Tensor into) {
  if (into.Elements() == 0) return;
  const auto held = std::find_if(held_.begin(), held_.end(), [tag](const Held& other) { return other.tag == tag; });
  CHECK(held != held_.end());
  if (held->ticket) pipeline_.Wait(model_.stream(), held->ticket);
  model_.kernels().Cast(held->x.Slice(0, 0, into.size(0)), into);
  held->ticket = {};
  held->tag = -1;
}

void Borders::Send(int tag, int to, Tensor x) {
  if (x.Elements() == 0) return;
  Outgoing& outgoing = outgoing_[next_outgoing_++ % outgoing_.size()];
  if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
  const Tensor copy = outgoing.x.Slice(0, 0, x.size(0));
  model_.kernels().Cast(x, copy);
  outgoing.ticket = pipeline_.Send(model_.stream(), copy, to, tag);
}

void Borders::WaitForSends() {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
    outgoing.ticket = {};
  }
}

}  // namespace conclave::parallel
