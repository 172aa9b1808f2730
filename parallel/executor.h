// SPDX-License-Identifier: Apache-2.0
// Performs a schedule on tensors: the cells of this rank in order, activations and gradients from and to neighbours. It
// calls the same dependency function as validator and simulator, so what it waits for is what they assume.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

#include "core/base/trace.h"
#include "core/model/model.h"
#include "parallel/borders.h"
#include "parallel/comm.h"
#include "parallel/overlap.h"
#include "parallel/partition.h"
#include "parallel/pass_slots.h"
#include "parallel/schedule.h"

namespace conclave::parallel {

enum class ExecutorUse { kTraining, kForward };  // kForward: Evaluate alone, of models of any purpose

struct ExecutorOptions {
  ExecutorUse use = ExecutorUse::kTraining;
  std::string schedule = "1f1b";
  int virtual_stages = 1;
  bool overlap = true;              // of the two halves of a cell; never changes a bit
  std::vector<int64_t> batch_rows;  // rows of global batches there will be, largest first: slots for all of them
  bool any_rows = false;            // batches may also have fewer rows than any of these, in as many micro-batches
  int64_t data_ranks = 1, data_rank = 0;
  int64_t expert_ranks = 1;  // neighbouring data ranks that exchange tokens
  int64_t micro_rows = 1;
  int64_t length = 1;                                     // tokens per row
  bool predict_ahead = true;                              // in training
  core::PolicyInputs policy = core::PolicyInputs::kNone;  // of training, at most
  int64_t teacher_hidden = 0;                             // of training, at most: PassShape::teacher_hidden
  core::Trace* trace = nullptr;                           // records cells and phases, if it is not null
};

class Executor {
 public:
  // `pipeline`: the ranks with this one's rows, in order of their stages. model.stages() are those of
  // schedule.StagesOf(rank).
  static absl::StatusOr<std::unique_ptr<Executor>> Create(core::Model& model, Comm& pipeline,
                                                          const ExecutorOptions& options);

  // Forward and backward of all micro-batches. `statistics` has a row for each row of this data rank. `stage_done` is
  // called with each stage of this rank whose weight gradients are complete.
  void Train(const core::Batch& batch, const core::LossWeights& weights, const core::StepStatistics& statistics,
             const std::function<void(const core::Stage&)>& stage_done);
  // Told of each layer's weight gradients; outlives the executor.
  void SetSink(core::GradientSink* sink) { sink_ = sink; }
  // Forward passes alone, for their losses or choices of experts; logits are divided by the temperature.
  void Evaluate(const core::Batch& batch, float temperature, const core::StepStatistics& statistics);

  BatchSplit Split(int64_t batch_rows) const {
    const BatchSplit split{batch_rows, options_.data_ranks, options_.micro_rows};
    if (!options_.any_rows) return split;
    return BatchSplit::Like({options_.batch_rows[0], options_.data_ranks, options_.micro_rows}, batch_rows);
  }
  // Tensors of the last pass through the last of this rank's stages; they stay until the next step.
  PassSlot& last_pass() { return slots_.back()->last(); }
  LaneMemory& lane() { return forward_lane_; }

  core::PassMemory planned() const { return planned_; }           // of the largest pass of any stage here
  int64_t activation_bytes() const { return activation_bytes_; }  // all slots and lanes
  core::PassMemory measured() const;
  bool MeasuredAsPlanned() const;

 private:
  // A schedule and what the executor reads off it.
  struct Plan {
    Schedule schedule;
    std::vector<bool> immediate;  // by stage x micro-batch: one action makes both gradients
    std::vector<int> num_passes;  // by stage of this rank
    std::vector<std::string> cell_names;
    const std::vector<Cell>& CellsOf(int rank) const { return schedule.cells[rank]; }
  };
  // What all actions of one step share.
  struct Step {
    const core::Batch& batch;
    BatchSplit split;
    const Plan& plan;
    const core::LossWeights& weights;
    const core::StepStatistics& statistics;
    bool training;
  };
  Executor(core::Model& model, Comm& pipeline, const ExecutorOptions& options)
      : model_(model), pipeline_(pipeline), options_(options), forward_lane_(model), backward_lane_(model) {}

  absl::Status Allocate();
  absl::Status AllocateBorders();
  core::PassMemory PlanLargest(const core::Stage& stage) const;
  Plan MakePlan(Schedule schedule) const;
  // Of training or of forward passes alone; made when first asked for.
  const Plan& PlanFor(int64_t num_micro, bool training);
  const core::PassShape& ShapeOf(const Step& step, const Action& action);  // until the next call
  // Place of a stage among those of this rank.
  size_t PlaceOf(int stage) const;
  PassSlots& SlotsOf(int stage) { return *slots_[PlaceOf(stage)]; }
  core::StepStatistics StatisticsOf(const Step& step, const Action& action) const;

  // Runs the cells in order; what the next one needs from other ranks is on its way while one runs.
  void RunCells(const Step& step, absl::FunctionRef<void(const Cell&)> cell_done);
  void ExpectMessages(const Step& step, const Cell& cell);
  void RunCell(const Step& step, const Cell& cell);
  void RunAction(const Step& step, const Action& action);
  PassSlot& BeginForward(const Step& step, const Action& action);
  void EndForward(const Step& step, const Action& action, PassSlot& slot);
  PassSlot& BeginBackward(const Step& step, const Action& action);
  void EndBackward(const Step& step, const Action& action, PassSlot& slot);
  ForwardWork ForwardOf(const Step& step, const Action& action, PassSlot& slot);
  BackwardWork BackwardOf(const Step& step, const Action& action, PassSlot& slot);
  // What another stage has made for this micro-batch: received, or copied from its pass on this rank.
  void Receive(const Step& step, const Action& made, core::Tensor into);
  // To the stage that needs it, on another rank or kept for one of this rank.
  void SendGradient(const Step& step, const Action& made, core::Tensor gradient);

  core::Model& model_;
  Comm& pipeline_;
  const ExecutorOptions options_;
  core::GradientSink* sink_ = nullptr;
  std::vector<int> stage_numbers_;                 // of model_.stages()
  std::vector<std::unique_ptr<PassSlots>> slots_;  // by stage of this rank
  LaneMemory forward_lane_, backward_lane_;
  std::unique_ptr<core::DeviceBuffer> lane_memory_;
  core::TokenFeeder feeder_;
  std::vector<std::unique_ptr<Plan>> training_plans_, forward_plans_;
  std::unique_ptr<Borders> borders_;
  core::PassShape shape_;             // of ShapeOf, kept so that a step allocates nothing
  std::vector<int> num_passes_left_;  // in this step, by stage of this rank
  core::PassMemory planned_;
  int64_t activation_bytes_ = 0;
};

}  // namespace conclave::parallel
