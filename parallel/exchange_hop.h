// SPDX-License-Identifier: Apache-2.0
// One hop of tokens over a communicator and the way back. A token goes once to each member behind which one of its
// experts lies, in the order (member, row, position). What comes back is one row for each choice, in the order (member,
// token, choice), so that nobody on the way adds; or, where bits may depend on the layout, one row for each copy.
//
// Two hops are the same code twice: the tokens that the first delivers are those that the second sends.
// Legend: T tokens of the sender, k experts per token, D hidden; members of the communicator.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/model/token_exchange.h"
#include "parallel/comm.h"

namespace conclave::parallel {

enum class ReturnedRows {
  kEachChoice,  // the bits of one rank alone
  kSummed,      // who holds several experts of a token adds their rows: fewer bytes
};

// When a hop is waited for: in a later phase of the block than it begins, or in the same.
enum class HopSpan { kAcrossPhases, kWithinPhase };

struct HopTokens {
  core::Tensor x;        // [T, D]
  core::Tensor experts;  // i32 [T, k], -1: none
  core::Tensor weights;  // f32 [T, k]
};

// Rows on their way home, of T tokens.
struct ChoiceRows {
  core::Tensor rows;         // [rows, D]
  core::Tensor row_slot;     // i32 [T, k] -> row, -1: none
  core::Tensor weight;       // f32 [choices], optional
  core::Tensor weight_slot;  // i32 [T, k] -> choice; the same as row_slot where every choice has its row
  core::Tensor offsets;      // i32, the last of which is the number of choices
};

// An all-to-all under way.
struct Transfer {
  core::Tensor sent, received;
  Ticket ticket;
};

// Rows of a message by member, known to the host: offsets [members + 1].
struct MemberOffsets {
  std::vector<int64_t> sent, received;
};

// What a hop remembers from its first call to its last. Vectors keep their memory from one micro-batch to the next.
struct HopState {
  // At the sender, until the input gradient.
  core::Permutation copies;   // of tokens to members
  core::Permutation choices;  // of (token, choice) to members: where their rows come home
  // Known from EndCounts on.
  MemberOffsets copy_offsets, choice_offsets;
  std::vector<int32_t> received_rows;  // [rows + 2] offsets of the rows that arrive, in tokens; an empty row at the end
  int64_t num_sent = 0, num_received = 0;  // copies
  int64_t choices_sent = 0, choices_received = 0;
  // Under way.
  Transfer copy_counts, choice_counts, x, experts, weights, rows, weight;
  MemberOffsets count_offsets;
  std::vector<int64_t> member_rows;               // [members]: rows of the batch at each
  std::vector<int32_t> host_sent, host_received;  // counts on their way to the host
};

// Buffers of what is under way lie in pass.until_block_end or, within a phase, in lane.scratch, as all that is
// temporary does: the caller's scope frees it.
class ExchangeHop {
 public:
  // member_of: [experts] where the way to each leads; -1: this hop does not lead there.
  ExchangeHop(Comm& comm, std::vector<int32_t> member_of, HopSpan span, ReturnedRows returned)
      : comm_(comm), member_of_(std::move(member_of)), span_(span), returned_(returned) {}

  int size() const { return comm_.size(); }
  int64_t num_experts() const;  // that this hop leads to

  // experts i32 [T, k]; row_offsets as HopState::received_rows; state.member_rows is set.
  void BeginCounts(core::Lane& lane, core::StagePass& pass, core::Tensor experts, std::span<const int32_t> row_offsets,
                   HopState& state) const;
  // The host waits. When planning, the numbers in `state` are set instead.
  void EndCounts(core::Lane& lane, core::StagePass& pass, HopState& state) const;

  void BeginTokens(core::Lane& lane, core::StagePass& pass, const HopTokens& tokens, HopState& state) const;
  HopTokens EndTokens(core::Lane& lane, HopState& state) const;
  // dy [T, D], by the way of the tokens.
  void BeginGradients(core::Lane& lane, core::StagePass& pass, core::Tensor dy, HopState& state) const;
  core::Tensor EndGradients(core::Lane& lane, HopState& state) const;

  // At the receiver, of the tokens it got  ->  at the sender, of those it sent.
  void BeginReturn(core::Lane& lane, core::StagePass& pass, const ChoiceRows& rows, HopState& state) const;
  ChoiceRows EndReturn(core::Lane& lane, HopState& state) const;

 private:
  core::Arena& Buffers(core::Lane& lane, core::StagePass& pass) const {
    return span_ == HopSpan::kWithinPhase ? lane.scratch : pass.until_block_end;
  }
  Transfer BeginCount(core::Lane& lane, core::StagePass& pass, core::Tensor starts, const HopState& state) const;
  void EndCount(core::Lane& lane, Transfer& counts, core::Tensor sent_offsets, HopState& state,
                MemberOffsets& offsets) const;
  // x [T, W], a copy to each member that needs it.
  Transfer BeginCopies(core::Lane& lane, core::StagePass& pass, core::Tensor x, const HopState& state) const;
  // rows [choices, W], sent home in `order`.
  Transfer BeginChoices(core::Lane& lane, core::StagePass& pass, core::Tensor rows, const core::Permutation& order,
                        const HopState& state) const;
  Transfer Begin(core::Lane& lane, core::StagePass& pass, core::Tensor send, std::span<const int64_t> send_offsets,
                 core::Tensor receive, std::span<const int64_t> receive_offsets) const;
  core::Tensor End(core::Lane& lane, Transfer& transfer) const;

  Comm& comm_;
  const std::vector<int32_t> member_of_;
  const HopSpan span_;
  const ReturnedRows returned_;
};

// Host numbers as a device tensor of lane.scratch; not copied when planning. `values` stay until the stream is reached.
core::Tensor ToScratch(core::Lane& lane, const core::StagePass& pass, std::span<const int32_t> values);

}  // namespace conclave::parallel
