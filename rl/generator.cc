// SPDX-License-Identifier: Apache-2.0
#include "rl/generator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "parallel/schedule.h"

namespace conclave::rl {

using core::DType;
using core::Tensor;

namespace {

constexpr int64_t kPromptSlots = 32;        // of a wave
constexpr int64_t kTokensOfReading = 2048;  // computed at once when prompts are read
constexpr int64_t kResultWords = sizeof(Drawn) / sizeof(int32_t);
constexpr int64_t kPositionBits = 20, kSampleBits = 12;

// One rank for each stage; where two hold it, the one with less to do.
std::vector<int> RankOfEachStage(const parallel::Schedule& schedule, int num_ranks) {
  std::vector<int> rank_of(schedule.num_stages), stages_of(num_ranks);
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    const std::vector<int> holders = schedule.HoldersOf(stage);
    rank_of[stage] =
        *std::min_element(holders.begin(), holders.end(), [&](int a, int b) { return stages_of[a] < stages_of[b]; });
    ++stages_of[rank_of[stage]];
  }
  return rank_of;
}

}  // namespace

int64_t DrawId(int64_t draw, int64_t sample, int64_t position) {
  CHECK_LT(sample, int64_t{1} << kSampleBits);
  CHECK_LT(position, int64_t{1} << kPositionBits);
  return (((draw << kSampleBits) + sample) << kPositionBits) + position;
}

absl::StatusOr<std::unique_ptr<Generator>> Generator::Create(core::Model& model, const parallel::Layout& layout,
                                                             const GeneratorOptions& options) {
  std::unique_ptr<Generator> generator(new Generator(model, layout, options));
  RETURN_IF_ERROR(generator->Allocate(layout));
  return generator;
}

absl::Status Generator::Allocate(const parallel::Layout& layout) {
  const parallel::MeshPlace place = layout.place();
  const parallel::ExecutorOptions& executor = layout.executor_options();
  const int64_t num_micro =
      parallel::BatchSplit{executor.batch_rows[0], executor.data_ranks, executor.micro_rows}.NumMicro();
  ASSIGN_OR_RETURN(const parallel::Schedule schedule,
                   parallel::MakeSchedule(executor.schedule, {layout.mesh().shape().pipeline,
                                                              static_cast<int>(num_micro), executor.virtual_stages}));
  rank_of_stage_ = RankOfEachStage(schedule, layout.mesh().shape().pipeline);
  last_rank_ = rank_of_stage_.back();
  pipeline_ = layout.pipeline().Split(0, "decode pipeline");
  experts_ = layout.all().Split(place.pipeline * layout.mesh().replicas() + place.replica, "decode experts");
  num_waves_ = num_stages_;
  wave_slots_ = std::max<int64_t>(1, options_.decode_slots / num_waves_);
  prompt_slots_ = std::min(kPromptSlots, wave_slots_);
  const std::vector<int>& held = layout.stages();
  for (size_t i = 0; i < held.size(); ++i) {
    if (rank_of_stage_[held[i]] != place.pipeline) continue;
    stages_.push_back(held[i]);
    core::DecodeCapacity capacity{.slots = num_waves_ * (wave_slots_ + prompt_slots_),
                                  .positions = options_.max_prompt_tokens + options_.max_tokens,
                                  .largest = {core::DecodeStage::Shape(wave_slots_, 1)}};
    for (int64_t prompts = 1; prompts <= prompt_slots_; ++prompts) {
      const int64_t length = std::min(options_.max_prompt_tokens, std::max<int64_t>(kTokensOfReading / prompts, 1));
      const bool alone = prompts == 1;
      capacity.largest.push_back(core::DecodeStage::Shape(prompts, alone ? options_.max_prompt_tokens : length));
    }
    for (core::PassShape& shape : capacity.largest) shape.group_rows.assign(experts_->size(), shape.rows);
    ASSIGN_OR_RETURN(decode_.emplace_back(),
                     core::DecodeStage::Create(model_, *model_.stages()[i], std::move(capacity)));
  }
  sent_.resize(stages_.size());
  outputs_.resize(stages_.size());
  return AllocateStages();
}

// What is drawn from, and what travels between ranks.
absl::Status Generator::AllocateStages() {
  const int64_t rows = std::max(wave_slots_, prompt_slots_);
  const int64_t drawn = std::max(wave_slots_, prompt_slots_ * options_.max_samples);
  const bool draws = pipeline_->rank() == last_rank_;
  core::Arena arena("sampling");
  const auto allocate = [&] {
    counts_ = arena.Allocate(DType::kI64, {experts_->size()});
    results_ = arena.Allocate(DType::kI32, {num_waves_, kResultWords * drawn});
    if (!draws) return;
    logits_ = arena.Allocate(DType::kF32, {rows, model_.config().vocab_size});
    gathered_ = arena.Allocate(model_.dtype(), {rows, model_.config().hidden_size});
    last_tokens_ = {.slot = {},
                    .token = arena.Allocate(DType::kI32, {rows}),
                    .expert_offsets = arena.Allocate(DType::kI32, {2}),
                    .segment_offsets = {}};
    sample_ = {.logits = {},
               .temperature = options_.temperature,
               .top_p = options_.top_p,
               .min_p = options_.min_p,
               .top_k = options_.top_k,
               .key = core::RandomKey(options_.seed, core::RandomPurpose::kSampling, 0),
               .draw_ids = arena.Allocate(DType::kI64, {rows}),
               .tokens = arena.Allocate(DType::kI32, {rows}),
               .log_probs = arena.Allocate(DType::kF32, {rows}),
               .filtered_log_probs = arena.Allocate(DType::kF32, {rows}),
               .entropy = arena.Allocate(DType::kF32, {rows})};
  };
  allocate();
  ASSIGN_OR_RETURN(memory_, model_.device().Allocate(arena.peak(), "sampling"));
  const int64_t bytes = arena.peak();
  arena.Reset();
  arena.Attach(memory_->data(), bytes);
  allocate();
  return absl::OkStatus();
}

std::vector<Completion> Generator::Generate(std::vector<Request> requests, const SlotQueue::HasEnded& has_ended) {
  std::vector<std::unique_ptr<Wave>> waves;
  const size_t count = requests.size();
  const bool filtered = options_.top_p < 1 || options_.top_k > 0 || options_.min_p > 0;
  const auto filters = filtered ? SlotQueue::Filters::kSome : SlotQueue::Filters::kNone;
  for (int w = 0; w < num_waves_; ++w) {
    std::vector<Request> share(std::make_move_iterator(requests.begin() + count * w / num_waves_),
                               std::make_move_iterator(requests.begin() + count * (w + 1) / num_waves_));
    for (const Request& request : share) {
      CHECK(!request.prompt.empty());
      CHECK_LE(static_cast<int64_t>(request.prompt.size()), options_.max_prompt_tokens);
      CHECK_LE(request.samples, options_.max_samples);
    }
    waves.emplace_back(new Wave{.queue = SlotQueue(std::move(share), wave_slots_, filters, has_ended),
                                .first_slot = w * (wave_slots_ + prompt_slots_),
                                .device_results = results_.Slice(0, w, 1).MergeFirst()});
  }
  const auto all_done = [&] { return std::all_of(waves.begin(), waves.end(), [](auto& wave) { return wave->done; }); };
  // At tick t stage s has the call of wave (t - s) mod waves: its turn comes when the stage before has had it.
  for (int64_t tick = 0; !all_done(); ++tick) {
    // Later stages first: they read what the stages before them left at the last tick.
    for (int i = static_cast<int>(stages_.size()) - 1; i >= 0; --i) {
      const int64_t turn = tick - stages_[i];
      if (turn < 0) continue;
      Wave& wave = *waves[turn % num_waves_];
      if (i == 0 && !wave.done) Plan(wave);
      if (!wave.done) RunStage(wave, i);
    }
  }
  for (parallel::Ticket& ticket : sent_) WaitForSend(ticket);
  for (auto& wave : waves) WaitForResults(*wave);
  std::vector<Completion> completions;
  for (auto& wave : waves) {
    for (Completion& completion : wave->queue.TakeCompletions()) completions.push_back(std::move(completion));
  }
  return completions;
}

std::vector<int64_t> Generator::GatherFromExperts(int64_t value) {
  std::vector<int64_t> values(experts_->size(), value), offsets(experts_->size() + 1);
  if (experts_->size() == 1) return values;
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int64_t>(i);
  core::Device& device = model_.device();
  device.CopyToDevice(model_.stream(), values.data(), counts_);
  experts_->Wait(model_.stream(), experts_->AllGather(model_.stream(), counts_, offsets));
  device.CopyToHost(model_.stream(), counts_, values.data());
  device.Synchronize(model_.stream());
  return values;
}

void Generator::Plan(Wave& wave) {
  if (wave.calls++ > 0) {
    TakeResults(wave);
    MoveCaches(wave);
  }
  const std::vector<int64_t> lengths = GatherFromExperts(wave.queue.NextPromptLength());
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  longest > 0 ? PlanReading(wave, longest) : PlanDecoding(wave);
}

void Generator::PlanReading(Wave& wave, int64_t length) {
  wave.reading = true;
  const int64_t most = std::clamp<int64_t>(kTokensOfReading / length, 1, prompt_slots_);
  wave.prompts = wave.queue.TakePrompts(most, length);
  wave.rows = static_cast<int64_t>(wave.prompts.size());
  wave.length = length;
  wave.tokens.assign(wave.rows * length, 0);
  wave.positions.assign(wave.rows * length, -1);
  wave.num_drawn = 0;
  for (int64_t row = 0; row < wave.rows; ++row) {
    const std::vector<int32_t>& prompt = wave.prompts[row].prompt;
    std::copy(prompt.begin(), prompt.end(), wave.tokens.begin() + row * length);
    for (size_t i = 0; i < prompt.size(); ++i) wave.positions[row * length + i] = static_cast<int32_t>(i);
    wave.num_drawn += wave.prompts[row].samples;
  }
  wave.group_rows = GatherFromExperts(wave.rows);
}

void Generator::PlanDecoding(Wave& wave) {
  wave.reading = false;
  wave.rows = wave.num_drawn = wave.queue.num_active();
  wave.length = 1;
  wave.group_rows = GatherFromExperts(wave.rows);
  wave.done = std::all_of(wave.group_rows.begin(), wave.group_rows.end(), [](int64_t rows) { return rows == 0; });
  wave.tokens.resize(wave.rows);
  wave.positions.resize(wave.rows);
  for (int64_t slot = 0; slot < wave.rows; ++slot) {
    wave.tokens[slot] = wave.queue.CompletionIn(slot).tokens.back();
    wave.positions[slot] = static_cast<int32_t>(wave.queue.PositionIn(slot));
  }
}

void Generator::TakeResults(Wave& wave) {
  const int64_t n = wave.num_drawn;
  if (n > 0 && pipeline_->rank() != last_rank_) {
    const Tensor results = wave.device_results.Slice(0, 0, kResultWords * n);
    pipeline_->Wait(model_.stream(), pipeline_->Receive(model_.stream(), results, last_rank_, num_stages_));
    wave.results.resize(kResultWords * n);
    model_.device().CopyToHost(model_.stream(), results, wave.results.data());
    model_.device().Synchronize(model_.stream());
  }
  drawn_.resize(n);
  if (n > 0) std::memcpy(static_cast<void*>(drawn_.data()), wave.results.data(), n * sizeof(Drawn));
  wave.reading ? wave.queue.AddFirst(drawn_) : wave.queue.AddNext(drawn_);
}

void Generator::MoveCaches(const Wave& wave) {
  for (const SlotMove& move : wave.queue.moves()) {
    for (auto& decode : decode_) decode->Copy(wave.first_slot + move.from, wave.first_slot + move.to, move.length);
  }
}

void Generator::WaitForSend(parallel::Ticket& ticket) {
  if (ticket) pipeline_->Wait(model_.stream(), std::exchange(ticket, {}));
}

void Generator::WaitForResults(Wave& wave) {
  for (parallel::Ticket& ticket : wave.results_sent) WaitForSend(ticket);
  wave.results_sent.clear();
}

void Generator::RunStage(Wave& wave, int index) {
  const int stage = stages_[index], rank = pipeline_->rank();
  core::DecodeStage& decode = *decode_[index];
  WaitForSend(sent_[index]);  // of the output that Begin overwrites
  const Tensor input = decode.Begin({.first_slot = wave.first_slot + (wave.reading ? wave_slots_ : 0),
                                     .rows = wave.rows,
                                     .length = wave.length,
                                     .tokens = wave.tokens,
                                     .positions = wave.positions,
                                     .group_rows = wave.group_rows});
  if (stage > 0 && wave.rows > 0) {
    const int from = rank_of_stage_[stage - 1];
    if (from == rank) {
      model_.kernels().Cast(outputs_[index - 1], input);
    } else {
      pipeline_->Wait(model_.stream(), pipeline_->Receive(model_.stream(), input, from, stage));
    }
  }
  outputs_[index] = decode.Run();
  if (wave.rows == 0) return;
  if (stage + 1 == num_stages_) return Draw(wave, decode, outputs_[index]);
  const int to = rank_of_stage_[stage + 1];
  if (to != rank) sent_[index] = pipeline_->Send(model_.stream(), outputs_[index], to, stage + 1);
}

void Generator::Draw(Wave& wave, core::DecodeStage& decode, Tensor hidden) {
  core::Device& device = model_.device();
  const Tensor logits = logits_.Slice(0, 0, wave.rows);
  if (wave.reading) {
    std::vector<int32_t> last(wave.rows);
    for (int64_t row = 0; row < wave.rows; ++row) {
      last[row] = static_cast<int32_t>(row * wave.length + static_cast<int64_t>(wave.prompts[row].prompt.size()) - 1);
    }
    const int32_t offsets[] = {0, static_cast<int32_t>(wave.rows)};
    core::Permutation permutation = last_tokens_;
    permutation.token = last_tokens_.token.Slice(0, 0, wave.rows);
    device.CopyToDevice(model_.stream(), last.data(), permutation.token);
    device.CopyToDevice(model_.stream(), offsets, permutation.expert_offsets);
    device.Synchronize(model_.stream());
    const Tensor gathered = gathered_.Slice(0, 0, wave.rows);
    model_.kernels().GatherRows(hidden, permutation, gathered);
    hidden = gathered;
  }
  decode.Logits(hidden, logits);
  sample_.logits = logits;
  wave.results.resize(kResultWords * wave.num_drawn);
  const auto store = [&](int64_t row, int64_t place) {
    const Drawn drawn{drawn_tokens_[row], drawn_log_probs_[row], drawn_filtered_[row], drawn_entropy_[row]};
    std::memcpy(wave.results.data() + kResultWords * place, &drawn, sizeof(Drawn));
  };
  if (!wave.reading) {
    DrawSample(wave, 0);
    for (int64_t row = 0; row < wave.rows; ++row) store(row, row);
  }
  for (int64_t sample = 0; wave.reading && sample < options_.max_samples; ++sample) {
    DrawSample(wave, sample);
    for (int64_t row = 0, place = 0; row < wave.rows; place += wave.prompts[row++].samples) {
      if (sample < wave.prompts[row].samples) store(row, place + sample);
    }
  }
  SendResults(wave);
}

void Generator::DrawSample(const Wave& wave, int64_t sample) {
  draw_ids_.resize(wave.rows);
  drawn_tokens_.resize(wave.rows);
  drawn_log_probs_.resize(wave.rows);
  drawn_filtered_.resize(wave.rows);
  drawn_entropy_.resize(wave.rows);
  for (int64_t row = 0; row < wave.rows; ++row) {
    if (wave.reading) {
      draw_ids_[row] = DrawId(wave.prompts[row].draw, wave.prompts[row].first_sample + sample, 0);
    } else {
      const Completion& completion = wave.queue.CompletionIn(row);
      draw_ids_[row] = DrawId(completion.draw, completion.sample, static_cast<int64_t>(completion.tokens.size()));
    }
  }
  core::SampleArgs args = sample_;
  args.draw_ids = sample_.draw_ids.Slice(0, 0, wave.rows);
  args.tokens = sample_.tokens.Slice(0, 0, wave.rows);
  args.log_probs = sample_.log_probs.Slice(0, 0, wave.rows);
  args.filtered_log_probs = sample_.filtered_log_probs.Slice(0, 0, wave.rows);
  args.entropy = sample_.entropy.Slice(0, 0, wave.rows);
  core::Device& device = model_.device();
  device.CopyToDevice(model_.stream(), draw_ids_.data(), args.draw_ids);
  model_.kernels().Sample(args);
  device.CopyToHost(model_.stream(), args.tokens, drawn_tokens_.data());
  device.CopyToHost(model_.stream(), args.log_probs, drawn_log_probs_.data());
  device.CopyToHost(model_.stream(), args.filtered_log_probs, drawn_filtered_.data());
  device.CopyToHost(model_.stream(), args.entropy, drawn_entropy_.data());
  device.Synchronize(model_.stream());
}

void Generator::SendResults(Wave& wave) {
  WaitForResults(wave);
  const Tensor results = wave.device_results.Slice(0, 0, static_cast<int64_t>(wave.results.size()));
  model_.device().CopyToDevice(model_.stream(), wave.results.data(), results);
  for (int rank = 0; rank < pipeline_->size(); ++rank) {
    if (rank != last_rank_) wave.results_sent.push_back(pipeline_->Send(model_.stream(), results, rank, num_stages_));
  }
}

}  // namespace conclave::rl
