// SPDX-License-Identifier: Apache-2.0
#include "parallel/layout.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "parallel/partition.h"
#include "parallel/schedule.h"
#include "parallel/trace.h"
#include "parallel/tracing_comm.h"

namespace conclave::parallel {
namespace {

// Of a micro-batch whose size is not given: enough to keep matrices busy. More takes memory, and time, too, as soon as
// activations leave the caches.
constexpr int64_t kMicroTokens = 8192;

std::string ScheduleName(const core::ParallelConfig& config) {
  if (!config.schedule.empty()) return config.schedule;
  return config.pipeline > 1 ? "dualpipev" : "1f1b";
}

core::PolicyInputs PolicyInputsOf(const core::Config& config) {
  if (!config.TrainsOnRollouts()) return core::PolicyInputs::kNone;
  return config.grpo.kl.coefficient != 0 ? core::PolicyInputs::kSampledAndReference : core::PolicyInputs::kSampled;
}

absl::Status CheckExperts(const core::ParallelConfig& config, const core::ModelConfig& model) {
  if (config.expert <= std::max<int64_t>(model.n_routed_experts, 1)) return absl::OkStatus();
  if (model.n_routed_experts == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("parallel.expert: %d, but the model has no experts; give 1", config.expert));
  }
  return absl::InvalidArgumentError(absl::StrFormat("parallel.expert: %d is more than the model's %d routed experts",
                                                    config.expert, model.n_routed_experts));
}

absl::Status InKey(const char* key, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrFormat("%s: %s", key, std::string(status.message())));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Layout>> Layout::Create(const core::Config& config, const core::ModelConfig& model,
                                                       std::vector<int64_t> batch_rows, Comm& world, int ranks_per_host,
                                                       core::Trace* trace) {
  const core::ParallelConfig& parallel = config.parallel;
  ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.pipeline = static_cast<int>(parallel.pipeline),
                                                  .expert = static_cast<int>(parallel.expert)},
                                                 world.size()));
  RETURN_IF_ERROR(CheckExperts(parallel, model));
  std::unique_ptr<Layout> layout(new Layout(mesh));
  const MeshPlace place = mesh.PlaceOf(world.rank());
  layout->executor_ = {.schedule = ScheduleName(parallel),
                       .virtual_stages = static_cast<int>(parallel.virtual_stages),
                       .overlap = parallel.overlap,
                       .batch_rows = std::move(batch_rows),
                       .any_rows = config.TrainsOnRollouts(),
                       .data_ranks = mesh.shape().data,
                       .data_rank = place.data,
                       .expert_ranks = mesh.shape().expert,
                       .micro_rows = 1,
                       .length = config.data.sequence_length,
                       .predict_ahead = config.moe.mtp_weight != 0,
                       .policy = PolicyInputsOf(config),
                       .trace = trace};
  layout->zero_ = parallel.zero;
  layout->num_groups_ = static_cast<int>(std::max<int64_t>(model.n_group, 1));
  RETURN_IF_ERROR(layout->ChooseMicroRows(config));
  const ExecutorOptions& executor = layout->executor_;
  const BatchSplit split{executor.batch_rows[0], executor.data_ranks, executor.micro_rows};
  ASSIGN_OR_RETURN(const Schedule schedule,
                   MakeSchedule(executor.schedule,
                                {mesh.shape().pipeline, static_cast<int>(split.NumMicro()), executor.virtual_stages}));
  auto parts = CutIntoStages(model, executor.length, schedule.num_stages);
  if (!parts.ok()) return InKey("parallel.pipeline", parts.status());
  layout->stage_parts_ = *std::move(parts);
  layout->stages_ = schedule.StagesOf(place.pipeline);
  layout->moe_layers_ = core::MoeLayers(model);
  layout->returned_ = config.exact ? ReturnedRows::kEachChoice : ReturnedRows::kSummed;
  for (size_t i = 0; i < layout->moe_layers_.size(); ++i) {
    layout->placements_.push_back(MakeContiguousPlacement(model.n_routed_experts, mesh.shape().expert));
  }
  const int per_node = static_cast<int>(parallel.ranks_per_node > 0 ? parallel.ranks_per_node : ranks_per_host);
  if (trace) layout->traced_world_ = MakeTracingComm(world.Split(0, world.name()), *trace);
  layout->comms_ = SplitByMesh(trace ? *layout->traced_world_ : world, mesh, per_node);
  layout->SplitHolders(model, schedule);
  if (trace) StartTrace(*trace, layout->all());
  return layout;
}

absl::Status Layout::ChooseMicroRows(const core::Config& config) {
  const auto check = [&](int64_t micro_rows) -> absl::Status {
    for (const int64_t rows : executor_.batch_rows) {
      const BatchSplit split{rows, executor_.data_ranks, micro_rows};
      RETURN_IF_ERROR(CheckShape(
          executor_.schedule, {mesh_.shape().pipeline, static_cast<int>(split.NumMicro()), executor_.virtual_stages}));
    }
    return absl::OkStatus();
  };
  const BatchSplit split{executor_.batch_rows[0], executor_.data_ranks, 1};
  if (config.batch.micro_sequences > 0) {
    executor_.micro_rows = config.batch.micro_sequences;
    const absl::Status status = check(executor_.micro_rows);
    return status.ok() ? status : InKey("batch.micro_sequences", status);
  }
  // As few micro-batches as the schedule accepts, of no more than kMicroTokens.
  absl::Status status;
  const int64_t most = std::max<int64_t>(kMicroTokens / executor_.length, 1);
  for (executor_.micro_rows = std::min(split.MostRows(), most); executor_.micro_rows > 0; --executor_.micro_rows) {
    status = check(executor_.micro_rows);
    if (status.ok()) return status;
  }
  const std::string reason = absl::StrFormat(
      "%s (batch.sequences: %d rows over %d data ranks are at most %d micro-batches)", std::string(status.message()),
      executor_.batch_rows.back(), executor_.data_ranks, split.MostRows());
  return InKey("parallel.schedule", absl::InvalidArgumentError(reason));
}

// All stages of a pipeline rank have the same holders: one rank, or two that mirror each other. Those run the same
// actions in the same order, on other micro-batches, so the order of their reductions is the same.
void Layout::SplitHolders(const core::ModelConfig& model, const Schedule& schedule) {
  const MeshPlace here = place();
  const std::vector<int> first = schedule.HoldersOf(0), last = schedule.HoldersOf(schedule.num_stages - 1);
  const int stage_holder = schedule.HoldersOf(stages_[0])[0];
  dense_ = all().Split(stage_holder, "dense");
  expert_ = all().Split(stage_holder * mesh_.shape().expert + here.expert, "expert holders");
  const bool shared = (model.tie_word_embeddings || model.num_nextn_predict_layers > 0) && first != last;
  const auto holds = [&](const std::vector<int>& ranks) {
    return std::find(ranks.begin(), ranks.end(), here.pipeline) != ranks.end();
  };
  embedding_ = all().Split(shared && (holds(first) || holds(last)) ? 0 : -1, "embedding");
  holders_ = {dense_.get(), expert_.get(), embedding_ ? embedding_.get() : dense_.get()};
}

bool Layout::Rebalance(std::span<const int64_t> load) {
  if (mesh_.shape().expert == 1 || placements_.empty()) return false;
  const int per_node = comms_.expert_intra ? comms_.expert_intra->size() : mesh_.shape().expert;
  const ExpertNodes nodes{mesh_.shape().expert / per_node, per_node, num_groups_};
  bool better = false;
  std::vector<ExpertPlacement> balanced;
  const size_t experts = load.size() / placements_.size();
  for (size_t i = 0; i < placements_.size(); ++i) {
    const std::span<const int64_t> of_layer = load.subspan(i * experts, experts);
    balanced.push_back(MakeBalancedPlacement(of_layer, nodes));
    const int64_t before = LargestRankLoad(of_layer, placements_[i]), after = LargestRankLoad(of_layer, balanced[i]);
    better = better || 20 * (before - after) >= before + (before == 0);
  }
  if (better) placements_ = std::move(balanced);
  return better;
}

void Layout::Describe(core::Model::Options& options) const {
  for (const int stage : stages_) options.parts.push_back(stage_parts_[stage]);
  if (mesh_.shape().expert > 1) {
    options.make_exchange = [this](int64_t layer, int64_t index) {
      const auto place = std::lower_bound(moe_layers_.begin(), moe_layers_.end(), layer) - moe_layers_.begin();
      const ExpertAxis axis = comms_.expert_inter ? ExpertAxis{comms_.expert_inter.get(), comms_.expert_intra.get()}
                                                  : ExpertAxis{comms_.expert.get(), nullptr};
      return MakeExpertExchange(axis, placements_[place], returned_, index);
    };
  }
  // Weights that do not change are whole on each rank of their part: nothing would gather them.
  if (options.purpose != core::ParamSet::Purpose::kTraining) return;
  options.shard = [this](core::ParamSet& params) { AssignShards(holders_, zero_, params); };
}

std::string Layout::Summary() const {
  const MeshShape& shape = mesh_.shape();
  const BatchSplit split{executor_.batch_rows[0], executor_.data_ranks, executor_.micro_rows};
  std::string text = absl::StrFormat("pipeline %d x data %d", shape.pipeline, shape.data);
  if (shape.expert > 1) text += absl::StrFormat(" (expert %d)", shape.expert);
  if (shape.pipeline > 1) text += absl::StrFormat(", %s: %d stages", executor_.schedule, stage_parts_.size());
  return text + absl::StrFormat(", %d micro-batch%s of %d row%s", split.NumMicro(), split.NumMicro() == 1 ? "" : "es",
                                executor_.micro_rows, executor_.micro_rows == 1 ? "" : "s");
}

}  // namespace conclave::parallel
