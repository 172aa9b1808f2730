// SPDX-License-Identifier: Apache-2.0
// What goes from stage to stage: activations one way, their gradients the other, between ranks of the pipeline or from
// one stage of a rank to another. Receives begin before they are needed, and sends have memory of their own, so that
// transfers run behind compute; how much memory that takes follows from the schedule alone.
//
// What an action makes is known by a tag, unique within a step.
#pragma once

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

#include "core/model/model.h"
#include "parallel/comm.h"
#include "parallel/schedule.h"

namespace conclave::parallel {

// How many tensors there are at once, at most.
struct BorderCounts {
  int64_t incoming = 0;  // received, or about to be, for the cell that runs and the next one
  int64_t kept = 0;      // made here for another stage of this rank
  int64_t outgoing = 0;  // sent, and perhaps not received yet
  void CoverAlso(const BorderCounts& other);
};

// Calls `visit` with what the action needs from another rank.
void ForEachMessage(const Schedule& schedule, int rank, const Action& action,
                    absl::FunctionRef<void(const Action& made)> visit);
// Of a training schedule, for a rank. The schedule must be valid.
BorderCounts CountBorders(const Schedule& schedule, int rank);

class Borders {
 public:
  // `tokens`: of the largest micro-batch.
  static absl::StatusOr<std::unique_ptr<Borders>> Create(core::Model& model, Comm& pipeline, const BorderCounts& counts,
                                                         int64_t tokens);
  int64_t bytes() const { return memory_->bytes(); }

  // Begins to receive [tokens, D]; Take follows.
  void Expect(int tag, int from, int64_t tokens);
  // Keeps a copy of x [tokens, D]; Take follows.
  void Keep(int tag, core::Tensor x);
  // Waits for what was expected or kept, and moves it into `into` [tokens, D].
  void Take(int tag, core::Tensor into);
  // Sends a copy of x [tokens, D], so that x may go. Does not wait for the receiver.
  void Send(int tag, int to, core::Tensor x);
  void WaitForSends();

 private:
  struct Held {
    core::Tensor x;
    int tag = -1;   // free
    Ticket ticket;  // of a receive
  };
  struct Outgoing {
    core::Tensor x;
    Ticket ticket;
  };
  Borders(core::Model& model, Comm& pipeline) : model_(model), pipeline_(pipeline) {}
  Held& Free(int tag);

  core::Model& model_;
  Comm& pipeline_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  std::vector<Held> held_;          // expected and kept
  std::vector<Outgoing> outgoing_;  // a ring, long enough that no send waits for its place
  size_t next_outgoing_ = 0;
};

}  // namespace conclave::parallel
