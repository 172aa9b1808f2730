// SPDX-License-Identifier: Apache-2.0
// What a pipeline gains, what the executor costs, and how well the simulator knows both. Ranks are threads with one
// core each, so two of them can be twice as fast as one, less the bubble.
//
// All jobs live at once and step in turns, so that what else the machine does slows all of them; figures are medians
// over the turns, and the best. Wall time means something on idle cores only. Where other programs want them, all
// threads of this one may get the share of one thread; then read
//   by twins    against two ranks that each train alone at the same time, but a rank that waits lends its share to the
//               other, so that bubbles are free
//   own cores   what processor time comes to on cores of their own, with the bubble of the simulator
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/base/trace.h"
#include "optim/trainer.h"
#include "parallel/simulate.h"
#include "parallel/thread_comm.h"

namespace conclave::parallel {
namespace {

constexpr int kTurns = 5;
constexpr int kMicros = 16;

core::Config SizedConfig() {
  core::Config config;
  core::ModelConfig& model = config.model;
  model.vocab_size = 512;
  model.hidden_size = 256;
  model.intermediate_size = 688;
  model.num_hidden_layers = 8;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 4;
  model.head_dim = 64;
  model.max_position_embeddings = 64;
  config.data.sequence_length = 64;
  config.batch.sequences = kMicros;
  config.batch.micro_sequences = 1;
  return config;
}

core::Batch SomeBatch(int64_t rows, int64_t length, int64_t vocabulary) {
  core::Batch batch{.rows = rows, .length = length, .num_labels = rows * length};
  for (int64_t i = 0; i < rows * length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(i * 7 % vocabulary));
    batch.labels.push_back(static_cast<int32_t>((i * 7 + 7) % vocabulary));
    batch.positions.push_back(static_cast<int32_t>(i % length));
  }
  for (int64_t row = 0; row < rows; ++row) batch.row_ids.push_back(row);
  return batch;
}

double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double Median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

// Ranks as threads that step when they are told to.
class Job {
 public:
  Job(core::Config config, int ranks, const std::string& schedule) : config_(std::move(config)), start_(ranks + 1) {
    config_.parallel.pipeline = ranks;
    config_.parallel.schedule = schedule;
    traces_.resize(ranks);
    busy_.resize(ranks);
    for (auto& comm : MakeThreadComms(ranks)) {
      threads_.emplace_back([this, world = std::move(comm)] { RunRank(*world); });
    }
    start_.arrive_and_wait();  // all are ready
  }
  ~Job() {
    over_ = true;
    start_.arrive_and_wait();
    for (std::thread& thread : threads_) thread.join();
  }

  void BeginStep() { start_.arrive_and_wait(); }
  void EndStep() { start_.arrive_and_wait(); }
  int ranks() const { return static_cast<int>(threads_.size()); }
  const core::Trace& trace(int rank) const { return *traces_[rank]; }
  double busy(int rank) const { return busy_[rank]; }  // processor seconds of the last step

 private:
  void RunRank(Comm& world) {
    auto device = core::CreateDevice({.num_threads = 1});
    CHECK(device.ok());
    traces_[world.rank()] = std::make_unique<core::Trace>();
    core::Trace& trace = *traces_[world.rank()];
    auto layout = Layout::Create(config_, config_.model, {config_.batch.sequences}, world, 1, &trace);
    CHECK(layout.ok());
    core::Model::Options options{.purpose = core::ParamSet::Purpose::kTraining,
                                 .max_positions = config_.data.sequence_length};
    (*layout)->Describe(options);
    auto model = core::Model::Create(config_.model, **device, options);
    CHECK(model.ok());
    (*model)->params().Initialize((*model)->kernels(), 1, config_.train.init_std);
    (*model)->Refresh();
    auto trainer = optim::Trainer::Create(**model, config_, **layout);
    CHECK(trainer.ok());
    const core::Batch batch =
        SomeBatch(config_.batch.sequences, config_.data.sequence_length, config_.model.vocab_size);
    start_.arrive_and_wait();
    for (int64_t step = 1;; ++step) {
      start_.arrive_and_wait();
      if (over_) return;
      trace.Start(0, 0);
      const double begin = ThreadSeconds();
      (*trainer)->Step(batch, step);
      busy_[world.rank()] = ThreadSeconds() - begin;
      start_.arrive_and_wait();
    }
  }

  core::Config config_;
  std::barrier<> start_;
  bool over_ = false;
  std::vector<std::unique_ptr<core::Trace>> traces_;
  std::vector<double> busy_;
  std::vector<std::thread> threads_;
};

// Seconds of the cells of one step, from the first begin to the last end, and of the waits within them.
struct CellTimes {
  double makespan = 0;
  double waits = 0;                                          // of all ranks
  std::vector<std::map<Verb, std::vector<double>>> by_verb;  // by stage: cells of one action, less their waits
};

CellTimes TimesOf(const Job& job, const Schedule& schedule) {
  CellTimes times{.by_verb = std::vector<std::map<Verb, std::vector<double>>>(schedule.num_stages)};
  int64_t begin = INT64_MAX, end = 0;
  for (int rank = 0; rank < job.ranks(); ++rank) {
    int64_t waits = 0;  // since the last cell
    size_t next = 0;
    for (const core::TraceSpan& span : job.trace(rank).spans()) {
      if (span.lane == core::TraceLane::kWait) waits += span.end - span.begin;
      if (std::string_view(span.category) != "cell") continue;
      const Cell& cell = schedule.cells[rank][next++];
      if (!cell.second) {
        times.by_verb[cell.first.stage][cell.first.verb].push_back(1e-9 * double(span.end - span.begin - waits));
      }
      times.waits += 1e-9 * static_cast<double>(waits);
      waits = 0;
      begin = std::min(begin, span.begin);
      end = std::max(end, span.end);
    }
    CHECK_EQ(next, schedule.cells[rank].size());
  }
  times.makespan = 1e-9 * static_cast<double>(end - begin);
  return times;
}

std::vector<StageCost> CostsOf(const CellTimes& times) {
  std::vector<StageCost> costs;
  for (const auto& by_verb : times.by_verb) {
    const auto cost = [&](Verb verb) { return by_verb.count(verb) ? Median(by_verb.at(verb)) : 0; };
    StageCost& stage = costs.emplace_back();
    stage = {cost(Verb::kForward), cost(Verb::kBackwardInput), cost(Verb::kBackwardWeight)};
    if (stage.backward_input == 0) stage.backward_input = stage.backward_weight = cost(Verb::kBackward) / 2;
  }
  return costs;
}

// Seconds of a step of all jobs at once.
double SecondsOfStep(const std::vector<Job*>& jobs) {
  const auto begin = std::chrono::steady_clock::now();
  for (Job* job : jobs) job->BeginStep();
  for (Job* job : jobs) job->EndStep();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Contender {
  std::string name;
  Schedule schedule;
  std::unique_ptr<Job> job;
  std::vector<double> seconds, speedup, twins_speedup, busy, model_bubble, bubble, makespan_to_model;
};

void MeasureSchedules() {
  Job alone(SizedConfig(), 1, "1f1b"), twin(SizedConfig(), 1, "1f1b");
  std::vector<Contender> contenders;
  for (const char* name : {"1f1b", "zb1p", "dualpipev", "zbv"}) {
    contenders.push_back({name, *MakeSchedule(name, {2, kMicros, 1}), std::make_unique<Job>(SizedConfig(), 2, name)});
  }
  std::vector<double> alone_seconds, alone_busy;
  for (int turn = -1; turn < kTurns; ++turn) {
    const double seconds = SecondsOfStep({&alone});
    if (turn >= 0) alone_seconds.push_back(seconds);
    if (turn >= 0) alone_busy.push_back(alone.busy(0));
    for (Contender& c : contenders) {
      const double twins = SecondsOfStep({&alone, &twin}), here = SecondsOfStep({c.job.get()});
      if (turn < 0) continue;  // memory is touched
      c.seconds.push_back(here);
      c.speedup.push_back(seconds / here);
      c.twins_speedup.push_back(twins / here);
      c.busy.push_back(c.job->busy(0) + c.job->busy(1));
      const CellTimes times = TimesOf(*c.job, c.schedule);
      const Simulation model = Simulate(c.schedule, {.stages = CostsOf(times)});
      c.model_bubble.push_back(model.BubbleShare());
      c.bubble.push_back(times.waits / (2 * times.makespan));
      c.makespan_to_model.push_back(times.makespan / model.makespan);
    }
  }
  const auto best = [](const std::vector<double>& x) { return *std::min_element(x.begin(), x.end()); };
  double load = 0;
  getloadavg(&load, 1);
  std::printf("a step of %d micro-batches on two ranks of one thread, %d turns, load average %.1f on %u cores\n",
              kMicros, kTurns, load, std::thread::hardware_concurrency());
  std::printf("one rank: %.0f ms median, %.0f best, %.0f of processor\n", 1e3 * Median(alone_seconds),
              1e3 * best(alone_seconds), 1e3 * Median(alone_busy));
  std::printf("%-10s %16s %19s %11s %10s %10s %14s %9s\n", "", "ms median, best", "speed-up med, best", "by twins",
              "processor", "own cores", "bubble, model", "to model");
  for (const Contender& c : contenders) {
    const double busy = Median(c.busy), bubble = Median(c.model_bubble);
    std::printf("%-10s %8.0f %7.0f %10.2f %8.2f %11.2f %10.2f %10.2f %6.1f%% %5.1f%% %9.2f\n", c.name.c_str(),
                1e3 * Median(c.seconds), 1e3 * best(c.seconds), Median(c.speedup),
                best(alone_seconds) / best(c.seconds), Median(c.twins_speedup), busy / Median(alone_busy),
                Median(alone_busy) / (busy / 2 / (1 - bubble)), 100 * Median(c.bubble), 100 * bubble,
                Median(c.makespan_to_model));
  }
}

// ---- What the executor itself costs: stages without blocks, one token ----------------------------------------------

struct Overhead {
  double wall = 0, busy = 0;  // seconds per action
};

Overhead MeasureOverhead(Comm& world, const std::string& name, int virtual_stages) {
  core::Config config = SizedConfig();
  config.model.hidden_size = 16;
  config.model.vocab_size = 16;
  auto device = core::CreateDevice({.num_threads = 1});
  CHECK(device.ok());
  const Schedule schedule = *MakeSchedule(name, {world.size(), kMicros, virtual_stages});
  core::Model::Options options{.purpose = core::ParamSet::Purpose::kTraining, .max_positions = 1};
  for (const int stage : schedule.StagesOf(world.rank())) {
    options.parts.push_back({0, 0, stage == 0, stage + 1 == schedule.num_stages});
  }
  auto model = core::Model::Create(config.model, **device, options);
  CHECK(model.ok());
  (*model)->Refresh();
  auto executor = Executor::Create(
      **model, world, {.schedule = name, .virtual_stages = virtual_stages, .batch_rows = {kMicros}, .micro_rows = 1});
  CHECK(executor.ok());
  const core::Batch batch = SomeBatch(kMicros, 1, 16);
  std::vector<double> loss(kMicros), z_sum(kMicros);
  core::StepStatistics statistics;
  statistics.loss = core::Tensor(loss.data(), core::DType::kF64, {1, kMicros});
  statistics.z_sum = core::Tensor(z_sum.data(), core::DType::kF64, {1, kMicros});
  int64_t actions = 0;
  for (const Cell& cell : schedule.cells[world.rank()]) ForEachAction(cell, [&](const Action&) { ++actions; });
  std::vector<double> wall, busy;
  for (int i = 0; i < 101; ++i) {
    world.Barrier();
    const auto begin = std::chrono::steady_clock::now();
    const double busy_begin = ThreadSeconds();
    (*executor)->Train(batch, {}, statistics, [](const core::Stage&) {});
    busy.push_back((ThreadSeconds() - busy_begin) / static_cast<double>(actions));
    wall.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
                   static_cast<double>(actions));
  }
  CHECK(options.parts.back().loss == (loss[0] > 0));  // it did run
  return {Median(wall), Median(busy)};
}

void MeasureOverheads() {
  std::printf("\nexecutor, us per action of an empty stage: median of 101 steps\n");
  for (const int ranks : {1, 2}) {
    for (const auto& [name, virtual_stages] :
         {std::pair("1f1b", 1), {"interleaved", 8}, {"zbv", 1}, {"dualpipev", 1}}) {
      std::vector<Overhead> overheads(ranks);
      std::vector<std::thread> threads;
      for (auto& comm : MakeThreadComms(ranks)) {
        threads.emplace_back([&, name = name, virtual_stages = virtual_stages, world = std::move(comm)] {
          overheads[world->rank()] = MeasureOverhead(*world, name, virtual_stages);
        });
      }
      for (std::thread& thread : threads) thread.join();
      std::printf("%d rank%s %-12s", ranks, ranks == 1 ? " " : "s", name);
      for (const Overhead& o : overheads) std::printf("  %6.1f wall %6.1f processor", 1e6 * o.wall, 1e6 * o.busy);
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace conclave::parallel

int main() {
  conclave::parallel::MeasureOverheads();
  conclave::parallel::MeasureSchedules();
}
