// SPDX-License-Identifier: Apache-2.0
// ZeRO stages 1 and 2. Every parameter has holders: the ranks with a copy of it. Each updates one run of its rows:
// gradients are reduced and scattered to whoever updates them, updated masters are gathered by all. Gradients are
// integers, so the sums have the same bits in every layout. Holders are
//   dense        all data ranks of the pipeline ranks that hold the stage (two of them in DualPipe)
//   experts      the same, as far as they hold the same experts
// In stage 2 the gradients of blocks' matrices are reduced after each micro-batch and kept for the shard alone; a
// layer's sums are reduced while the next layer's are computed.
//   embedding    the holders of the first and of the last stage, where both look tokens up or the head is tied
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"

#include "core/model/model.h"
#include "parallel/comm.h"

namespace conclave::parallel {

// Communicators of holders on this rank.
struct HolderComms {
  Comm* dense = nullptr;
  Comm* expert = nullptr;
  Comm* embedding = nullptr;  // dense itself where only one stage has it
  Comm& Of(const core::ParamSpec& spec) const {
    return spec.expert ? *expert : spec.kind == core::ParamKind::kEmbedding ? *embedding : *dense;
  }
};

// Rows [offsets[i], offsets[i + 1]) of a parameter belong to holder i.
std::vector<int64_t> ShardOffsets(int64_t rows, int holders);
// Sets the Shard of each parameter, and with `zero` 2 whose gradients are cut: for core::Model::Options::shard.
void AssignShards(const HolderComms& comms, int64_t zero, core::ParamSet& params);

class GradSync final : public core::GradientSink {
 public:
  GradSync(core::Model& model, const HolderComms& comms);

  // Starts to reduce the gradients of one stage's own parameters; they are complete on this rank.
  void BeginReduce(const core::Stage& stage);
  // Reduces what is left, waits, and clears what is not of this rank's shards: sums of shards are then global.
  void EndReduce();
  // Of cut gradients, in every micro-batch.
  void BeginLayer(int64_t layer) override;
  void EndLayer(int64_t layer) override;
  // After shards of masters were updated: all masters are whole again; of those that are cut, the panels are packed.
  void GatherMasters();
  // Shows each master that is cut, whole, to all its holders, one after the other in the same memory. Collective.
  void VisitCutMasters(absl::FunctionRef<void(const core::Param&, core::Tensor)> visit);

 private:
  struct Entry {
    core::Param* param;
    Comm* comm;
    std::vector<int64_t> offsets;
    bool early;     // reduced by BeginReduce
    Ticket ticket;  // under way
    bool reduced = false;
  };
  void Begin(Entry& entry);
  core::Tensor GatherCut(Entry& entry);
  // Adds what was reduced to the shard's sums, and clears the memory for the next layer.
  void Finish(Entry& entry);

  core::Model& model_;
  std::vector<Entry> entries_;  // parameters with several holders and a gradient, in order of declaration
};

}  // namespace conclave::parallel
