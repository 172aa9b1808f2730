// SPDX-License-Identifier: Apache-2.0
// How one run is laid out over ranks, seen from one of them: mesh, stages, experts, communicators. Made once from
// config and world; what models, executors and gradient sums are told of it. One rank alone is a layout, too.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/base/trace.h"
#include "core/config/config.h"
#include "core/model/model.h"
#include "parallel/comm.h"
#include "parallel/executor.h"
#include "parallel/expert_exchange.h"
#include "parallel/grad_sync.h"
#include "parallel/mesh.h"

namespace conclave::parallel {

class Layout {
 public:
  // Collective. `batch_rows`: rows of all global batches of the run, largest first. `ranks_per_host`: consecutive ranks
  // that share a host, unless parallel.ranks_per_node says otherwise. `trace` records what this rank does from here on,
  // if it is not null, and outlives the layout. Errors name config keys.
  static absl::StatusOr<std::unique_ptr<Layout>> Create(const core::Config& config, const core::ModelConfig& model,
                                                        std::vector<int64_t> batch_rows, Comm& world,
                                                        int ranks_per_host, core::Trace* trace = nullptr);

  const Mesh& mesh() const { return mesh_; }
  MeshPlace place() const { return mesh_.PlaceOf(comms_.all->rank()); }
  Comm& all() const { return *comms_.all; }
  Comm& pipeline() const { return *comms_.pipeline; }
  const HolderComms& holders() const { return holders_; }
  const ExecutorOptions& executor_options() const { return executor_; }
  // Parts of the model by stage, over all ranks, and the stages of this rank.
  const std::vector<core::StagePart>& stage_parts() const { return stage_parts_; }
  const std::vector<int>& stages() const { return stages_; }
  const std::vector<ExpertPlacement>& placements() const { return placements_; }  // by MoE layer

  // Places experts anew by the tokens each has got (load: [MoE blocks, experts], row-major, over all ranks) if the
  // fullest rank of some layer then gets at least a twentieth less. Models made before hold what they held: true asks
  // for new ones. Changes no bit. The same on every rank.
  bool Rebalance(std::span<const int64_t> load);

  // Sets parts and exchange of the model of this rank and, for training, its shards. The layout outlives the model.
  void Describe(core::Model::Options& options) const;

  // "pipeline 2 x data 4 (expert 2), dualpipev: 4 stages, 16 micro-batches of 1 row"
  std::string Summary() const;

 private:
  explicit Layout(const Mesh& mesh) : mesh_(mesh) {}
  absl::Status ChooseMicroRows(const core::Config& config);
  void SplitHolders(const core::ModelConfig& model, const Schedule& schedule);

  const Mesh mesh_;
  std::unique_ptr<Comm> traced_world_;
  MeshComms comms_;
  std::unique_ptr<Comm> dense_, expert_, embedding_;  // holders of copies
  HolderComms holders_;
  ExecutorOptions executor_;
  int64_t zero_ = 1;
  int num_groups_ = 1;  // of the router
  std::vector<core::StagePart> stage_parts_;
  std::vector<int> stages_;
  std::vector<int64_t> moe_layers_;
  std::vector<ExpertPlacement> placements_;
  ReturnedRows returned_ = ReturnedRows::kEachChoice;
};

}  // namespace conclave::parallel
