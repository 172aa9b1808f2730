// SPDX-License-Identifier: Apache-2.0
#include "parallel/executor.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "parallel/schedule_order.h"

namespace conclave::parallel {

using core::PassMode;
using core::Tensor;

namespace {

bool IsBackward(Verb verb) { return verb == Verb::kBackward || verb == Verb::kBackwardInput; }

// Unique within a step among the messages of two ranks.
int TagOf(const Schedule& schedule, const Action& made) { return static_cast<int>(ResultIndex(schedule, made)); }

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(core::Model& model, Comm& pipeline,
                                                           const ExecutorOptions& options) {
  std::unique_ptr<Executor> executor(new Executor(model, pipeline, options));
  for (int64_t rows : options.batch_rows) {
    const ScheduleShape shape{pipeline.size(), static_cast<int>(executor->Split(rows).NumMicro()),
                              options.virtual_stages};
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
  for (const Cell& cell : plan.CellsOf(rank)) {
    plan.cell_names.push_back(CellText(cell));
    ForEachAction(cell, [&](const Action& action) {
      if (action.verb == Verb::kBackward) plan.immediate[action.stage * plan.schedule.num_micro + action.micro] = true;
      const auto place = std::find(stages.begin(), stages.end(), action.stage) - stages.begin();
      if (action.verb == Verb::kForward) ++plan.num_passes[place];
    });
  }
  return plan;
}

core::PassMemory Executor::PlanLargest(const core::Stage& stage) const {
  core::PassMemory largest;
  bool deferred = false;
  for (const auto& plan : training_plans_) {
    for (const Cell& cell : plan->CellsOf(pipeline_.rank())) deferred |= cell.first.verb == Verb::kBackwardWeight;
  }
  const int64_t rows = std::min(Split(options_.batch_rows[0]).MostRows(), options_.micro_rows);
  for (PassMode mode : {PassMode::kForwardOnly, PassMode::kTrainImmediate, PassMode::kTrain}) {
    if (mode == PassMode::kTrain && !deferred) continue;
    if (mode != PassMode::kForwardOnly && options_.use == ExecutorUse::kForward) continue;
    core::PassShape shape{mode, rows, options_.length, options_.predict_ahead && mode != PassMode::kForwardOnly};
    shape.group_rows.assign(options_.expert_ranks, rows);
    if (stage.part().loss && mode != PassMode::kForwardOnly) {
      shape.policy = options_.policy;
      shape.teacher_hidden = options_.teacher_hidden;
    }
    largest.CoverAlso(core::PlanPass(stage, model_.device(), model_.stream(), model_.kernels(), shape));
  }
  return largest;
}

absl::Status Executor::Allocate() {
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
  activation_bytes_ += 2 * lane_bytes;
  return AllocateBorders();
}

absl::Status Executor::AllocateBorders() {
  BorderCounts counts;
  // Forward passes alone go by the clock micro-batch + stage, a message received at the tick after its own: two ticks'
  // worth.
  if (pipeline_.size() > 1) counts = {.incoming = 2, .outgoing = 2 * static_cast<int64_t>(stage_numbers_.size())};
  for (const auto& plan : training_plans_) counts.CoverAlso(CountBorders(plan->schedule, pipeline_.rank()));
  const int64_t rows = std::min(Split(options_.batch_rows[0]).MostRows(), options_.micro_rows);
  ASSIGN_OR_RETURN(borders_, Borders::Create(model_, pipeline_, counts, rows * options_.length));
  activation_bytes_ += borders_->bytes();
  return absl::OkStatus();
}

const Executor::Plan& Executor::PlanFor(int64_t num_micro, bool training) {
  auto& plans = training ? training_plans_ : forward_plans_;
  for (const auto& plan : plans) {
    if (plan->schedule.num_micro == num_micro) return *plan;
  }
  CHECK(!training);  // made by Create
  plans.push_back(
      std::make_unique<Plan>(MakePlan(MakeForwardSchedule(training_plans_[0]->schedule, static_cast<int>(num_micro)))));
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
  const bool learns = step.training && SlotsOf(action.stage).stage().part().loss;
  shape_.policy = learns ? core::InputsOf(step.batch) : core::PolicyInputs::kNone;
  shape_.teacher_hidden = learns && step.statistics.teacher_hidden ? options_.teacher_hidden : 0;
  shape_.group_rows.clear();
  const int64_t first = options_.data_rank / options_.expert_ranks * options_.expert_ranks;
  for (int64_t i = 0; i < options_.expert_ranks; ++i)
    shape_.group_rows.push_back(step.split.MicroRows(first + i, micro));
  return shape_;
}

size_t Executor::PlaceOf(int stage) const {
  const auto place = std::find(stage_numbers_.begin(), stage_numbers_.end(), stage);
  CHECK(place != stage_numbers_.end());
  return static_cast<size_t>(place - stage_numbers_.begin());
}

core::StepStatistics Executor::StatisticsOf(const Step& step, const Action& action) const {
  const int64_t rows = step.split.Rows(options_.data_rank);
  const int64_t begin = std::min(action.micro * step.split.micro_rows, rows);
  core::StepStatistics out = step.statistics.Rows(begin, step.split.MicroRows(options_.data_rank, action.micro));
  if (!out.choices) return out;
  const size_t place = PlaceOf(action.stage);
  int64_t first = 0;  // of the MoE blocks of the stage among those of all stages here
  for (size_t i = 0; i < place; ++i) first += slots_[i]->stage().num_body_moe_blocks();
  out.choices.experts = out.choices.experts.Slice(0, first, slots_[place]->stage().num_body_moe_blocks());
  return out;
}

void Executor::ExpectMessages(const Step& step, const Cell& cell) {
  const Schedule& schedule = step.plan.schedule;
  ForEachAction(cell, [&](const Action& action) {
    const core::TraceAt at(options_.trace, {action.stage, action.micro});
    ForEachMessage(schedule, pipeline_.rank(), action, [&](const Action& made) {
      borders_->Expect(TagOf(schedule, made), schedule.RankOf(made.stage, made.micro),
                       step.split.MicroRows(options_.data_rank, made.micro) * options_.length);
    });
  });
}

void Executor::Receive(const Step& step, const Action& made, Tensor into) {
  const Schedule& schedule = step.plan.schedule;
  const bool is_here = schedule.RankOf(made.stage, made.micro) == pipeline_.rank();
  if (!is_here || made.verb != Verb::kForward) return borders_->Take(TagOf(schedule, made), into);
  if (into.Elements() == 0) return;
  PassSlots& slots = SlotsOf(made.stage);
  model_.kernels().Cast(slots.stage().Output(slots.Find(made.micro).saved), into);
}

void Executor::SendGradient(const Step& step, const Action& made, Tensor gradient) {
  if (made.stage == 0) return;
  const int to = step.plan.schedule.RankOf(made.stage - 1, made.micro), tag = TagOf(step.plan.schedule, made);
  to == pipeline_.rank() ? borders_->Keep(tag, gradient) : borders_->Send(tag, to, gradient);
}

PassSlot& Executor::BeginForward(const Step& step, const Action& action) {
  const core::TraceAt at(options_.trace, {action.stage, action.micro});
  const core::TraceScope scope(options_.trace, "phase", "F begin");
  PassSlots& slots = SlotsOf(action.stage);
  PassSlot& slot = slots.Acquire(action.micro, ShapeOf(step, action));
  slot.pass.tasks.SetSink(sink_);
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
  const core::TraceAt at(options_.trace, {action.stage, action.micro});
  const core::TraceScope scope(options_.trace, "phase", "F end");
  PassSlots& slots = SlotsOf(action.stage);
  slots.stage().EndForward(forward_lane_.lane, slot.pass, step.weights, StatisticsOf(step, action), slot.saved);
  slots.Leave(slot, forward_lane_);
  const Schedule& schedule = step.plan.schedule;
  if (action.stage + 1 == schedule.num_stages) return;
  const Tensor output = slots.stage().Output(slot.saved);
  const int to = schedule.RankOf(action.stage + 1, action.micro), tag = TagOf(schedule, action);
  if (to == pipeline_.rank() || output.Elements() == 0) return;
  // In training the output stays where it is until the backward, long enough to be sent from there.
  if (step.training) {
    slot.output_sent = pipeline_.Send(model_.stream(), output, to, tag);
  } else {
    borders_->Send(tag, to, output);
  }
}

PassSlot& Executor::BeginBackward(const Step& step, const Action& action) {
  const core::TraceAt at(options_.trace, {action.stage, action.micro});
  const core::TraceScope scope(options_.trace, "phase", "B begin");
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
  const core::TraceAt at(options_.trace, {action.stage, action.micro});
  const core::TraceScope scope(options_.trace, "phase", "B end");
  PassSlots& slots = SlotsOf(action.stage);
  slots.stage().EndBackward(backward_lane_.lane, slot.pass, slot.saved);
  slots.Leave(slot, backward_lane_);
  SendGradient(step, action, slots.stage().InputGradient(slot.saved));
  // The next stage has had it: this backward followed from that one's.
  if (slot.output_sent) pipeline_.Wait(model_.stream(), slot.output_sent);
  slot.output_sent = {};
  slots.ReleaseInput(slot);
}

ForwardWork Executor::ForwardOf(const Step& step, const Action& action, PassSlot& slot) {
  return {{SlotsOf(action.stage).stage(), forward_lane_.lane, slot.pass, slot.saved, {action.stage, action.micro}},
          StatisticsOf(step, action)};
}

BackwardWork Executor::BackwardOf(const Step& step, const Action& action, PassSlot& slot) {
  return {{SlotsOf(action.stage).stage(), backward_lane_.lane, slot.pass, slot.saved, {action.stage, action.micro}},
          step.weights};
}

void Executor::RunAction(const Step& step, const Action& action) {
  if (action.verb == Verb::kForward) {
    PassSlot& slot = BeginForward(step, action);
    RunForward(ForwardOf(step, action, slot), options_.trace);
    EndForward(step, action, slot);
  } else if (IsBackward(action.verb)) {
    PassSlot& slot = BeginBackward(step, action);
    RunBackward(BackwardOf(step, action, slot), options_.trace);
    EndBackward(step, action, slot);
  } else {
    PassSlots& slots = SlotsOf(action.stage);
    slots.stage().BackwardWeight(backward_lane_.lane, slots.Find(action.micro).pass);
  }
}

void Executor::RunCell(const Step& step, const Cell& cell) {
  if (!cell.second || !options_.overlap) {
    ForEachAction(cell, [&](const Action& action) { RunAction(step, action); });
    return;
  }
  PassSlot& forward = BeginForward(step, cell.first);
  PassSlot& backward = BeginBackward(step, *cell.second);
  RunOverlapped(ForwardOf(step, cell.first, forward), BackwardOf(step, *cell.second, backward), options_.trace);
  EndForward(step, cell.first, forward);
  EndBackward(step, *cell.second, backward);
}

void Executor::RunCells(const Step& step, absl::FunctionRef<void(const Cell&)> cell_done) {
  const std::vector<Cell>& cells = step.plan.CellsOf(pipeline_.rank());
  if (!cells.empty()) ExpectMessages(step, cells[0]);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i + 1 < cells.size()) ExpectMessages(step, cells[i + 1]);
    const core::TraceAt at(options_.trace, {cells[i].first.stage, cells[i].first.micro});
    const core::TraceScope scope(options_.trace, "cell", step.plan.cell_names[i]);
    RunCell(step, cells[i]);
    cell_done(cells[i]);
  }
  borders_->WaitForSends();
}

void Executor::Train(const core::Batch& batch, const core::LossWeights& weights, const core::StepStatistics& statistics,
                     const std::function<void(const core::Stage&)>& stage_done) {
  CHECK(options_.use == ExecutorUse::kTraining);
  const BatchSplit split = Split(batch.rows);
  const Step step{batch, split, PlanFor(split.NumMicro(), true), weights, statistics, true};
  num_passes_left_ = step.plan.num_passes;
  // A weight gradient ends a pass, and the last one of a stage its gradients.
  const auto finish = [&](const Action& action) {
    if (action.verb != Verb::kBackward && action.verb != Verb::kBackwardWeight) return;
    PassSlots& slots = SlotsOf(action.stage);
    slots.Release(slots.Find(action.micro));
    if (--num_passes_left_[PlaceOf(action.stage)] == 0) stage_done(slots.stage());
  };
  RunCells(step, [&](const Cell& cell) { ForEachAction(cell, finish); });
}

void Executor::Evaluate(const core::Batch& batch, float temperature, const core::StepStatistics& statistics) {
  const BatchSplit split = Split(batch.rows);
  const core::LossWeights weights{.temperature = temperature};
  const Step step{batch, split, PlanFor(split.NumMicro(), false), weights, statistics, false};
  RunCells(step, [&](const Cell& cell) {
    const Action& action = cell.first;
    // A pass stays until the next stage has its output: where that is on this rank, until that has run.
    const auto release = [&](int stage) { SlotsOf(stage).Release(SlotsOf(stage).Find(action.micro)); };
    const auto is_here = [&](int stage) {
      return stage >= 0 && stage < step.plan.schedule.num_stages &&
             step.plan.schedule.RankOf(stage, action.micro) == pipeline_.rank();
    };
    if (is_here(action.stage - 1)) release(action.stage - 1);
    if (!is_here(action.stage + 1)) release(action.stage);
  });
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
