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
  int kept = 0;
  const auto note = [&](const Action& action) {
    if (IsBackward(action.verb)) {
      const auto is_here = [&](int stage) {
        return stage >= 0 && stage < plan.schedule.num_stages && plan.schedule.RankOf(stage, action.micro) == rank;
      };
      kept += is_here(action.stage - 1);
      plan.most_kept = std::max(plan.most_kept, kept);
      kept -= is_here(action.stage + 1);
    }
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
    for (const Cell& cell : plan->schedule.cells[pipeline_.rank()])
      deferred |= cell.first.verb == Verb::kBackwardWeight;
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

// What is on its way between stages.
absl::Status Executor::AllocateBorders() {
  // Forward passes alone go by the clock micro-batch + stage, a message received at the tick after its own: two ticks'
  // worth.
  int64_t in_flight = pipeline_.size() > 1 ? 2 * static_cast<int64_t>(stage_numbers_.size()) : 0, kept = 0;
  for (const auto& plan : training_plans_) {
    int64_t here = 0;
    for (int to = 0; to < pipeline_.size(); ++to) {
      if (to != pipeline_.rank()) here += MaxMessagesInFlight(plan->schedule, pipeline_.rank(), to);
    }
    in_flight = std::max(in_flight, here);
    kept = std::max<int64_t>(kept, plan->most_kept);
  }
  const int64_t rows = std::min(Split(options_.batch_rows[0]).MostRows(), options_.micro_rows);
  const int64_t tokens = rows * options_.length, hidden = model_.config().hidden_size;
  const int64_t bytes = tokens * hidden * core::SizeOf(model_.dtype());
  ASSIGN_OR_RETURN(border_memory_, model_.device().Allocate((in_flight + kept) * bytes, "activations between stages"));
  char* next = static_cast<char*>(border_memory_->data());
  for (int64_t i = 0; i < in_flight + kept; ++i, next += bytes) {
    const Tensor x(next, model_.dtype(), {tokens, hidden});
    i < in_flight ? outgoing_.push_back({x, {}}) : kept_.push_back({x});
  }
  activation_bytes_ += border_memory_->bytes();
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
  shape_.group_rows.clear();
  const int64_t first = options_.data_rank / options_.expert_ranks * options_.expert_ranks;
  for (int64_t i = 0; i < options_.expert_ranks; ++i)
    shape_.group_rows.push_back(step.split.MicroRows(first + i, micro));
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
  if (made.verb == Verb::kForward) {
    PassSlots& slots = SlotsOf(made.stage);
    return model_.kernels().Cast(slots.stage().Output(slots.Find(made.micro).saved), into);
  }
  const auto kept = std::find_if(kept_.begin(), kept_.end(),
                                 [tag = TagOf(schedule, made)](const Kept& kept) { return kept.tag == tag; });
  CHECK(kept != kept_.end());
  model_.kernels().Cast(kept->x.Slice(0, 0, into.size(0)), into);
  kept->tag = -1;
}

void Executor::Keep(const Step& step, const Action& made, Tensor x) {
  if (x.Elements() == 0) return;
  const auto free = std::find_if(kept_.begin(), kept_.end(), [](const Kept& kept) { return kept.tag < 0; });
  CHECK(free != kept_.end());
  free->tag = TagOf(step.plan.schedule, made);
  model_.kernels().Cast(x, free->x.Slice(0, 0, x.size(0)));
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
  PassSlots& slots = SlotsOf(action.stage);
  slots.stage().EndForward(forward_lane_.lane, slot.pass, step.weights, StatisticsOf(step, action.micro), slot.saved);
  slots.Leave(slot, forward_lane_);
  if (action.stage + 1 == step.plan.schedule.num_stages) return;
  const Tensor output = slots.stage().Output(slot.saved);
  if (step.training) {
    slot.output_sent = Send(step, action, action.stage + 1, output);
  } else {
    SendCopy(step, action, action.stage + 1, output);
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
  if (action.stage > 0) {
    const Tensor gradient = slots.stage().InputGradient(slot.saved);
    const bool is_here = step.plan.schedule.RankOf(action.stage - 1, action.micro) == pipeline_.rank();
    is_here ? Keep(step, action, gradient) : SendCopy(step, action, action.stage - 1, gradient);
  }
  // The next stage has had it: this backward followed from that one's.
  if (slot.output_sent) pipeline_.Wait(model_.stream(), slot.output_sent);
  slot.output_sent = {};
  slots.ReleaseInput(slot);
}

void Executor::SendCopy(const Step& step, const Action& made, int to_stage, Tensor x) {
  if (step.plan.schedule.RankOf(to_stage, made.micro) == pipeline_.rank() || x.Elements() == 0) return;
  Outgoing& outgoing = outgoing_[next_outgoing_++ % outgoing_.size()];
  if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
  const Tensor copy = outgoing.x.Slice(0, 0, x.size(0));
  model_.kernels().Cast(x, copy);
  outgoing.ticket = Send(step, made, to_stage, copy);
}

void Executor::WaitForSends() {
  for (Outgoing& outgoing : outgoing_) {
    if (outgoing.ticket) pipeline_.Wait(model_.stream(), outgoing.ticket);
    outgoing.ticket = {};
  }
}

void Executor::RunAction(const Step& step, const Action& action) {
  PassSlots& slots = SlotsOf(action.stage);
  const core::Stage& stage = slots.stage();
  if (action.verb == Verb::kForward) {
    PassSlot& slot = BeginForward(step, action);
    for (int64_t i = 0; i < stage.num_blocks(); ++i) {
      for (core::Phase phase : core::kForwardPhases) {
        stage.ForwardPhase(i, phase, forward_lane_.lane, slot.pass, StatisticsOf(step, action.micro), nullptr,
                           slot.saved);
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
                {SlotsOf(cell.second->stage).stage(), backward_lane_.lane, backward.pass, backward.saved},
                step.weights);
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
  WaitForSends();
}

void Executor::Evaluate(const core::Batch& batch, const core::StepStatistics& statistics) {
  const BatchSplit split = Split(batch.rows);
  const core::LossWeights weights;
  const Step step{batch, split, PlanFor(split.NumMicro(), false), weights, statistics, false};
  for (const Cell& cell : step.plan.schedule.cells[pipeline_.rank()]) {
    const Action& action = cell.first;
    RunAction(step, action);
    // A pass stays until the next stage has its output: where that is on this rank, until that has run.
    const auto release = [&](int stage) { SlotsOf(stage).Release(SlotsOf(stage).Find(action.micro)); };
    const auto is_here = [&](int stage) {
      return stage >= 0 && stage < step.plan.schedule.num_stages &&
             step.plan.schedule.RankOf(stage, action.micro) == pipeline_.rank();
    };
    if (is_here(action.stage - 1)) release(action.stage - 1);
    if (!is_here(action.stage + 1)) release(action.stage);
  }
  WaitForSends();
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
