// SPDX-License-Identifier: Apache-2.0
// The exchange of tokens between the ranks of an expert axis (core/model/token_exchange.h): all-to-alls, in one hop or
// in two, between nodes first, then inside, so that a token crosses to a node once. Rows of an expert are ordered by
// (rank they came from, row, position), each (expert, row) is a segment of its own, and the home rank alone adds: the
// bits are those of one rank that holds all experts.
//
// What can overlap with compute is the first hop, which runs between the phases of a block; the second is waited for
// within a phase.
#pragma once

#include <memory>

#include "core/model/token_exchange.h"
#include "parallel/comm.h"
#include "parallel/exchange_hop.h"
#include "parallel/expert_balance.h"

namespace conclave::parallel {

// The ranks that tokens are exchanged with. In one hop `first` holds all of them. In two, `first` holds the ranks with
// the same index in every node, `second` those of this node (expert_inter, expert_intra of mesh.h), and ranks of the
// axis count node by node. They outlive the exchanges.
struct ExpertAxis {
  Comm* first = nullptr;
  Comm* second = nullptr;  // null: one hop

  int size() const { return first->size() * (second ? second->size() : 1); }
  int rank() const { return second ? first->rank() * second->size() + second->rank() : first->rank(); }
};

// Of one MoE layer; `index` as in core::ExchangeFactory. All exchanges of an axis share its communicators: calls come
// in the same order on all ranks.
std::unique_ptr<core::TokenExchange> MakeExpertExchange(const ExpertAxis& axis, const ExpertPlacement& placement,
                                                        ReturnedRows returned, int64_t index);

}  // namespace conclave::parallel
