// SPDX-License-Identifier: Apache-2.0
#include "parallel/executor.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "parallel/overlap.h"
#include "parallel/schedule_order.h"

namespace conclave::parallel {

using core::PassMode;
using core::Tensor;

namespace {

bool IsBackward(Verb verb) { return verb == Verb::kBackward || verb == Verb::kBackwardInput; }

// Unique within a step among the messages of two ranks.
int TagOf(const Schedule& schedule, const Action& made) {
  return static_cast<int>(ResultIndex(schedule, made));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(core::Model& model, Comm& pipeline,
                                                           const ExecutorOptions& options) {
  std::unique_ptr<Executor> executor(new Executor(model, pipeline, options));
  for (int64_t rows : options.batch_rows) {
    const ScheduleShape shape{pipeline.size(), static_cast<int>(executor->Split(rows).NumMicro()), options.virtual_stages};
    ASSIGN_OR_RETURN(Schedule schedule, MakeSchedule(options.schedule, shape));
    executor->training_plans_.push_back(std::make_unique<Plan>(executor->MakePlan(std::move(schedule))));
  }
  executor->stage_numbers_ = executor->training_plans_[0]->schedule.StagesOf(pipeline.rank());
  CHECK_EQ(executor->stage_numbers_.size(), model.stages().size());
  RETURN_IF_ERROR(executor->Allocate());
  return executor;
}

Executor::Plan Executor::MakePlan(Schedule schedule) const {
  const int rank = pipeline_.rank();
  const std::vector<int> stages = schedule.StagesOf(rank);
  Plan plan{.schedule = std::move(schedule), .immediate = {}, .num_passes = std::vector<int>(stages.size())};
  plan.immediate.resize(plan.schedule.num_stages * plan.schedule.num_micro);
  const auto note = [&](const Action& action) {
    if (action.verb == Verb::kBackward) plan.immediate[action.stage * plan.schedule.num_micro + action.micro] = true;
    const auto place = std::find(stages.begin(), stages.end(), action.stage) - stages.begin();
    if (action.verb == Verb::kForward) ++plan.num_passes[place];
  };
  for (const Cell& cell : plan.schedule.cells[rank]) {
    note(cell.first);
    if (cell.second) note(*cell.second);
  }
  return plan;
}

core::PassMemory Executor::PlanLargest(const core::Stage& stage) const {
  core::PassMemory largest;
  bool deferred = false;
  for (const auto& plan : training_plans_) {
    for (const Cell& cell : plan->schedule.cells[pipeline_.rank()]) deferred |= cell.first.verb == Verb::kBackwardWeight;
  }
  const int64_t rows = std::min(Split(options_.batch_rows[0]).MostRows(), options_.micro_rows);
  for (PassMode mode : {PassMode::kForwardOnly, PassMode::kTrainImmediate, PassMode::kTrain}) {
    if (mode == PassMode::kTrain && !deferred) continue;
    core::PassShape shape{mode, rows, options_.length, options_.predict_ahead && mode != PassMode::kForwardOnly};
    shape.group_rows.assign(options_.expert_ranks, rows);
    largest.CoverAlso(core::PlanPass(stage, model_.device(), model_.stream(), model_.kernels(), shape));
  }
  return largest;
}

absl::Status Executor::Allocate() {
  int64_t in_flight = 0;
  for (const auto& plan : training_plans_) {
    int64_t here = 0;
    for (int to = 0; to < pipeline_.size(); ++to) {
      if (to != pipeline_.rank()) here += MaxMessagesInFlight(plan->schedule, pipeline_.rank(), to);
    }
    in_flight = std::max(in_flight, here);
  }
  for (size_t chunk = 0; chunk < model_.stages().size(); ++chunk) {
    const core::Stage& stage = *model_.stages()[chunk];
    Slots slots;
    for (const auto& plan : training_plans_) {
      const Slots here = CountSlots(plan->schedule, pipeline_.rank()).chunks[chunk];
      slots = {std::max(slots.until_input_grad, here.until_input_grad),
               std::max(slots.until_weight_grad, here.until_weight_grad)};
    }
    const core::PassMemory largest = PlanLargest(stage);
    planned_.CoverAlso(largest);
    ASSIGN_OR_RETURN(slots_.emplace_back(), PassSlots::Create(model_, stage, largest, slots));
    activation_bytes_ += slots_.back()->bytes();
  }
  const int64_t lane_bytes = planned_.until_block_end + planned_.scratch;
  ASSIGN_OR_RETURN(lane_memory_, model_.device().Allocate(2 * lane_bytes, "activations of one action"));
  char* next = static_cast<char*>(lane_memory_->data());
  for (LaneMemory* lane : {&forward_lane_, &backward_lane_}) {
    lane->block_end = next;
    lane->block_end_bytes = planned_.until_block_end;
    lane->scratch.Attach(next + planned_.until_block_end, planned_.scratch);
    next += lane_bytes;
  }
  const int64_t rows = std::min(Split(options_.batch_rows[0]).MostRows(), options_.micro_rows);
  const int64_t hidden = model_.config().hidden_size;
  const int64_t bytes = rows * options_.length * hidden * core::SizeOf(model_.dtype());
  ASSIGN_OR_RETURN(outgoing_memory_, model_.device().Allocate(in_flight * bytes, "gradients in flight"));
  for (int64_t i = 0; i < in_flight; ++i) {
    char* const memory = static_cast<char*>(outgoing_memory_->data()) + i * bytes;
    outgoing_.push_back({Tensor(memory, model_.dtype(), {rows * options_.length, hidden}), {}});
  }
  activation_bytes_ += 2 * lane_bytes + in_flight * bytes;
  return absl::OkStatus();
}

const Executor::Plan& Executor::PlanFor(int64_t num_micro, bool training) {
  auto& plans = training ? training_plans_ : forward_plans_;
  for (const auto& plan : plans) {
    if (plan->schedule.num_micro == num_micro) return *plan;
  }
  CHECK(!training);  // made by Create
  plans.push_back(std::make_unique<Plan>(
      MakePlan(MakeForwardSchedule(training_plans_[0]->schedule, static_cast<int>(num_micro)))));
  return *plans.back();
}

const core::PassShape& Executor::ShapeOf(const Step& step, const Action& action) {
  const int64_t micro = action.micro;
  const bool immediate = step.plan.immediate[action.stage * step.plan.schedule.num_micro + micro];
  const PassMode mode = !step.training ? PassMode::kForwardOnly
                        : immediate    ? PassMode::kTrainImmediate
                                       : PassMode::kTrain;
  shape_.mode = mode;
  shape_.rows = step.split.MicroRows(options_.data_rank, micro);
  shape_.length = options_.length;
  shape_.predict_ahead = options_.predict_ahead && step.training;
  shape_.group_rows.clear();
  const int64_t first = options_.data_rank / options_.expert_ranks * options_.expert_ranks;
  for (int64_t i = 0; i < options_.expert_ranks; ++i) shape_.group_rows.push_back(step.split.MicroRows(first + i, micro));
  return shape_;
}

PassSlots& Executor::SlotsOf(int stage) {
  const auto place = std::find(stage_numbers_.begin(), stage_numbers_.end(), stage);
  CHECK(place != stage_numbers_.end());
  return *slots_[place - stage_numbers_.begin()];
}

core::StepStatistics Executor::StatisticsOf(const Step& step, int micro) const {
  const int64_t rows = step.split.Rows(options_.data_rank);
  const int64_t begin = std::min(micro * step.split.micro_rows, rows);
  return step.statistics.Rows(begin, step.split.MicroRows(options_.data_rank, micro));
}

void Executor::Receive(const Step& step, const Action& made, Tensor into) {
  const Schedule& schedule = step.plan.schedule;
  if (into.Elements() == 0) return;
  const int from = schedule.RankOf(made.stage, made.micro);
  if (from != pipeline_.rank()) {
    const Ticket ticket = pipeline_.Receive(model_.stream(), into, from, TagOf(schedule, made));
    return pipeline_.Wait(model_.stream(), ticket);
  }
  PassSlots& slots = SlotsOf(made.stage);
  const PassSlot& pass = slots.Find(made.micro);
  model_.kernels().Cast(made.verb == Verb::kForward ? slots.stage().Output(pass.saved)
                                                    : slots.stage().InputGradient(pass.saved),
                        into);
}

Ticket Executor::Send(const Step& step, const Action& made, int to_stage, Tensor x) {
  const Schedule& schedule = step.plan.schedule;
  const int to = schedule.RankOf(to_stage, made.micro);
  if (to == pipeline_.rank() || x.Elements() == 0) return {};
  return pipeline_.Send(model_.stream(), x, to, TagOf(schedule, made));
}

PassSlot& Executor::BeginForward(const Step& step, const Action& action) {
  PassSlots& slots = SlotsOf(action.stage);
  PassSlot& slot = slots.Acquire(action.micro, ShapeOf(step, action));
  feeder_.Fill(model_.device(), model_.stream(), step.batch, step.split.MicroBegin(options_.data_rank, action.micro),
               slot.pass);
  slots.Enter(slot, forward_lane_);
  ForEachDependency(step.plan.schedule, action, [&](const Action& made) {
    Receive(step, made, slots.stage().AllocateInput(slot.pass, slot.saved));
  });
  slots.stage().BeginForward(forward_lane_.lane, slot.pass, slot.saved);
  return slot;
}

void Executor::EndForward(const Step& step, const Action& action, PassSlot& slot) {
  PassSlots& slots = SlotsOf(action.stage);
  slots.stage().EndForward(forward_lane_.lane, slot.pass, step.weights, StatisticsOf(step, action.micro), slot.saved);
  slots.Leave(slot, forward_lane_);
  if (action.stage + 1 < step.plan.schedule.num_stages) {
    slot.output_sent = Send(step, action, action.stage + 1, slots.stage().Output(slot.saved));
  }
}

PassSlot& Executor::BeginBackward(const Step& step, const Action& action) {
  PassSlots& slots = SlotsOf(action.stage);
  PassSlot& slot = slots.Find(action.micro);
  slots.Enter(slot, backward_lane_);
  ForEachDependency(step.plan.schedule, action, [&](const Action& made) {
    if (made.stage == action.stage) return;  // its own forward
    Receive(step, made, slots.stage().AllocateOutputGradient(slot.pass, slot.saved));
  });
  slots.stage().BeginBackward(backward_lane_.lane, slot.pass, step.weights, slot.saved);
  return slot;
}

void Executor::EndBackward(const Step& step, const Action& action, PassSlot& slot) {
  PassSlots& slots = SlotsOf(action.stage);
  slots.stage().EndBackward(backward_lane_.lane, slot.pass, slot.saved);
  slots.Leave(slot, backward_lane_);
  if (action.stage > 0) SendGradient(step, action, slots.stage().InputGradient(slot.saved));
  // The next stage has had it: this backward followed from that one's.
  if (slot.output_sent) pipeline_.Wait(model_.stream(), slot.output_sent);
  slot.output_sent = {};
  slots.ReleaseInput(slot);
}

void Executor::SendGradient(const Step& step, const Action& made, Tensor x) {
  if (step.plan.schedule.RankOf(made.stage - 1, made.micro) == pipeline_.rank() || x.Elements() == 0) return;
  Outgoing& outgoing = outgoing_[next_outgoing_++ % outgoing_.size()];
  if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
  const Tensor copy = outgoing.x.Slice(0, 0, x.size(0));
  model_.kernels().Cast(x, copy);
  outgoing.ticket = Send(step, made, made.stage - 1, copy);
}

void Executor::RunAction(const Step& step, const Action& action) {
  PassSlots& slots = SlotsOf(action.stage);
  const core::Stage& stage = slots.stage();
  if (action.verb == Verb::kForward) {
    PassSlot& slot = BeginForward(step, action);
    for (int64_t i = 0; i < stage.num_blocks(); ++i) {
      for (core::Phase phase : core::kForwardPhases) {
        stage.ForwardPhase(i, phase, forward_lane_.lane, slot.pass, StatisticsOf(step, action.micro), nullptr, slot.saved);
      }
    }
    EndForward(step, action, slot);
  } else if (IsBackward(action.verb)) {
    PassSlot& slot = BeginBackward(step, action);
    for (int64_t i = stage.num_blocks() - 1; i >= 0; --i) {
      for (core::Phase phase : core::kBackwardPhases) {
        stage.BackwardPhase(i, phase, backward_lane_.lane, slot.pass, step.weights, slot.saved);
      }
      stage.EndBlock(backward_lane_.lane, slot.pass, slot.saved);
    }
    EndBackward(step, action, slot);
  } else {
    stage.BackwardWeight(backward_lane_.lane, slots.Find(action.micro).pass);
  }
}

void Executor::RunCell(const Step& step, const Cell& cell) {
  if (!cell.second) return RunAction(step, cell.first);
  if (!options_.overlap) {
    RunAction(step, cell.first);
    return RunAction(step, *cell.second);
  }
  PassSlot& forward = BeginForward(step, cell.first);
  PassSlot& backward = BeginBackward(step, *cell.second);
  RunOverlapped({SlotsOf(cell.first.stage).stage(), forward_lane_.lane, forward.pass, forward.saved},
                StatisticsOf(step, cell.first.micro),
                {SlotsOf(cell.second->stage).stage(), backward_lane_.lane, backward.pass, backward.saved}, step.weights);
  EndForward(step, cell.first, forward);
  EndBackward(step, *cell.second, backward);
}

void Executor::Train(const core::Batch& batch, const core::LossWeights& weights, const core::StepStatistics& statistics,
                     const std::function<void(const core::Stage&)>& stage_done) {
  const BatchSplit split = Split(batch.rows);
  const Step step{batch, split, PlanFor(split.NumMicro(), true), weights, statistics, true};
  num_passes_left_ = step.plan.num_passes;
  // A weight gradient ends a pass, and the last one of a stage its gradients.
  const auto finish = [&](const Action& action) {
    if (action.verb != Verb::kBackward && action.verb != Verb::kBackwardWeight) return;
    PassSlots& slots = SlotsOf(action.stage);
    slots.Release(slots.Find(action.micro));
    const auto place = std::find(stage_numbers_.begin(), stage_numbers_.end(), action.stage) - stage_numbers_.begin();
    if (--num_passes_left_[place] == 0) stage_done(slots.stage());
  };
  for (const Cell& cell : step.plan.schedule.cells[pipeline_.rank()]) {
    RunCell(step, cell);
    finish(cell.first);
    if (cell.second) finish(*cell.second);
  }
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
    outgoing.ticket = {};
  }
}

void Executor::Evaluate(const core::Batch& batch, const core::StepStatistics& statistics) {
  const BatchSplit split = Split(batch.rows);
  const core::LossWeights weights;
  const Step step{batch, split, PlanFor(split.NumMicro(), false), weights, statistics, false};
  for (const Cell& cell : step.plan.schedule.cells[pipeline_.rank()]) {
    RunCell(step, cell);
    PassSlots& slots = SlotsOf(cell.first.stage);
    PassSlot& slot = slots.Find(cell.first.micro);
    if (slot.output_sent) pipeline_.Wait(model_.stream(), slot.output_sent);
    slot.output_sent = {};
    slots.Release(slot);
  }
}

core::PassMemory Executor::measured() const {
  core::PassMemory out;
  for (const auto& slots : slots_) out.CoverAlso(slots->measured());
  return out;
}

bool Executor::MeasuredAsPlanned() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& slots) { return slots->MeasuredAsPlanned(); });
}

}  // namespace conclave::parallel
