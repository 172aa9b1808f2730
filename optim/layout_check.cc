// SPDX-License-Identifier: Apache-2.0
#include "optim/layout_check.h"

#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <thread>

#include "absl/strings/str_format.h"

#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "optim/teacher.h"
#include "optim/trainer.h"
#include "optim/weights.h"
#include "parallel/job.h"
#include "parallel/layout.h"
#include "parallel/schedule.h"
#include "parallel/thread_comm.h"

namespace conclave::optim {
namespace {

// Global tensors put together from the boxes of all ranks, which are runs of rows. Each element must come exactly once.
class Assembly {
 public:
  void Add(const core::StateTensor& tensor) {
    const std::lock_guard lock(mutex_);
    Whole& whole = tensors_[tensor.name];
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    const int64_t item = core::SizeOf(tensor.dtype), count = tensor.box.Elements();
    whole.bytes.resize(elements * item);
    whole.times.resize(elements);
    const int64_t begin = tensor.box.offsets[0] * (elements / tensor.shape[0]);
    std::memcpy(whole.bytes.data() + begin * item, tensor.data, count * item);
    for (int64_t i = 0; i < count; ++i) ++whole.times[begin + i];
  }

  absl::StatusOr<std::string> Hash() const {
    core::Hasher hasher;
    for (const auto& [name, whole] : tensors_) {
      for (size_t i = 0; i < whole.times.size(); ++i) {
        if (whole.times[i] == 1) continue;
        return absl::InternalError(absl::StrFormat("%s: element %d is held %d times", name, i, whole.times[i]));
      }
      hasher.Update(name.data(), name.size());
      hasher.Update(whole.bytes.data(), whole.bytes.size());
    }
    return hasher.HexDigest();
  }

 private:
  struct Whole {
    std::vector<char> bytes;
    std::vector<uint8_t> times;
  };
  std::mutex mutex_;
  std::map<std::string, Whole> tensors_;
};

// What one rank needs for its training.
struct RankParts {
  std::unique_ptr<core::Device> device;
  std::unique_ptr<parallel::Layout> layout, teacher_layout;
  std::unique_ptr<core::Model> model, teacher_model;
  std::unique_ptr<Teacher> teacher;
  std::unique_ptr<Trainer> trainer;
};

absl::Status CreateTeacher(const LayoutTask& task, const core::Config& config, RankParts& parts) {
  if (!task.teacher) return absl::OkStatus();
  core::Model::Options options{.precision = config.ComputePrecision(), .max_positions = config.data.sequence_length};
  parts.teacher_layout->Describe(options);
  ASSIGN_OR_RETURN(parts.teacher_model, core::Model::Create(task.teacher->model, *parts.device, options));
  RETURN_IF_ERROR(task.teacher->initialize(*parts.teacher_model));
  parts.teacher_model->Refresh();
  ASSIGN_OR_RETURN(parts.teacher, Teacher::Create(*parts.teacher_model, *parts.teacher_layout, config.batch.sequences));
  return absl::OkStatus();
}

absl::Status CreateTrainer(const LayoutTask& task, const core::Config& config, int threads, RankParts& parts) {
  ASSIGN_OR_RETURN(parts.device, core::CreateDevice({.num_threads = threads}));
  core::Model::Options options{.precision = config.ComputePrecision(),
                               .purpose = core::ParamSet::Purpose::kTraining,
                               .training = core::TrainingStateOf(config),
                               .max_positions = config.data.sequence_length};
  parts.layout->Describe(options);
  ASSIGN_OR_RETURN(parts.model, core::Model::Create(task.model, *parts.device, options));
  RETURN_IF_ERROR(task.initialize(*parts.model));
  parts.model->Refresh();
  RETURN_IF_ERROR(CreateTeacher(task, config, parts));
  const int64_t teacher_hidden = task.teacher ? task.teacher->model.hidden_size : 0;
  ASSIGN_OR_RETURN(parts.trainer, Trainer::Create(*parts.model, config, *parts.layout, teacher_hidden));
  parts.trainer->StartEma();
  parts.trainer->SetPolicy(task.rule, task.temperature);
  if (task.replayed_batches > 0) {
    RETURN_IF_ERROR(parts.trainer->PlanReplay(task.replayed_batches, config.batch.sequences));
  }
  if (!task.teacher) return absl::OkStatus();
  parts.trainer->SetTeacher({.direction = task.teacher->direction, .teacher_head = parts.teacher->head()},
                            task.temperature, parts.teacher->hidden());
  return absl::OkStatus();
}

// The first step records the choices of its own batch, as those of stage grpo do.
StepMetrics ReplayStep(const LayoutTask& task, int64_t step, Trainer& trainer) {
  using Use = core::RouterChoices::Use;
  for (int64_t i = 1; step == 1 && i < task.replayed_batches; ++i) trainer.RecordChoices(task.batch(i + 1), i);
  const int64_t batch = (step - 1) % task.replayed_batches;
  return trainer.Step(task.batch(batch + 1), step, ReplayUse{step == 1 ? Use::kRecord : Use::kReplay, batch});
}

void AddPolicyFigures(const PolicyMetrics& p, std::vector<double>& figures) {
  figures.insert(figures.end(), {p.loss, static_cast<double>(p.tokens), p.clipped_low, p.clipped_high, p.dual_clipped,
                                 p.ratio, p.largest_ratio, p.kl, p.reference_kl, p.difference, p.largest_difference,
                                 static_cast<double>(p.differing_tokens)});
}

absl::StatusOr<LayoutOutcome> RunRank(const LayoutTask& task, const LayoutChoice& choice, parallel::Job& job,
                                      Assembly& assembly) {
  core::Config config = task.config;
  config.parallel = choice.parallel;
  config.batch.micro_sequences = choice.micro_rows;
  RankParts parts;
  // Fails on all ranks alike.
  ASSIGN_OR_RETURN(parts.layout, parallel::Layout::Create(config, task.model, BatchRows(config.batch), job.world(), 1));
  if (task.teacher) {
    ASSIGN_OR_RETURN(parts.teacher_layout,
                     parallel::Layout::Create(config, task.teacher->model, BatchRows(config.batch), job.world(), 1));
  }
  RETURN_IF_ERROR(job.AgreeOn(CreateTrainer(task, config, choice.threads, parts)));
  LayoutOutcome outcome;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 1; step <= task.steps; ++step) {
    const core::Batch batch = task.batch(step);
    if (parts.teacher) parts.teacher->Compute(batch);
    const StepMetrics m =
        task.replayed_batches > 0 ? ReplayStep(task, step, *parts.trainer) : parts.trainer->Step(batch, step);
    outcome.figures.insert(outcome.figures.end(),
                           {m.loss, m.mtp_loss, m.balance_loss, m.total_loss, m.grad_norm, m.load_imbalance,
                            static_cast<double>(m.replayed), static_cast<double>(m.flips)});
    if (m.teacher_kl) outcome.figures.push_back(*m.teacher_kl);
    if (m.policy) AddPolicyFigures(*m.policy, outcome.figures);
  }
  outcome.figures.push_back(parts.trainer->Evaluate(task.batch(task.steps + 1), task.temperature).loss);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  outcome.memory_as_planned = parts.trainer->MeasuredAsPlanned();
  for (const core::StateTensor& tensor : OptimizerTensors(*parts.model)) assembly.Add(tensor);
  return outcome;
}

}  // namespace

std::string LayoutChoice::Text() const {
  const int data = std::max(ranks / static_cast<int>(std::max<int64_t>(parallel.pipeline, 1)), 1);
  std::string text =
      absl::StrFormat("%d rank%s: pipeline %d x data %d", ranks, ranks == 1 ? "" : "s", parallel.pipeline, data);
  if (parallel.expert > 1) text += absl::StrFormat(", expert %d", parallel.expert);
  if (parallel.ranks_per_node > 1) text += absl::StrFormat(" in nodes of %d", parallel.ranks_per_node);
  if (!parallel.schedule.empty()) text += ", " + parallel.schedule;
  if (parallel.zero > 1) text += absl::StrFormat(", zero %d", parallel.zero);
  if (micro_rows > 0) text += absl::StrFormat(", micro-batches of %d", micro_rows);
  return text + absl::StrFormat(", %d thread%s", threads, threads == 1 ? "" : "s");
}

absl::StatusOr<LayoutOutcome> RunLayout(const LayoutTask& task, const LayoutChoice& choice) {
  Assembly assembly;
  std::vector<std::unique_ptr<parallel::Comm>> comms = parallel::MakeThreadComms(choice.ranks);
  std::vector<absl::StatusOr<LayoutOutcome>> outcomes(choice.ranks, absl::UnknownError("has not run"));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < choice.ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto job = parallel::Job::OnThreads(std::move(comms[rank]));
      outcomes[rank] = RunRank(task, choice, *job, assembly);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& outcome : outcomes) {
    if (!outcome.ok() && !parallel::IsReported(outcome.status())) return outcome.status();
  }
  LayoutOutcome result = *outcomes[0];
  for (const auto& outcome : outcomes) {
    if (outcome->figures != result.figures) return absl::InternalError("ranks have different figures of the same step");
    result.memory_as_planned = result.memory_as_planned && outcome->memory_as_planned;
  }
  ASSIGN_OR_RETURN(result.hash, assembly.Hash());
  return result;
}

std::vector<LayoutChoice> ListLayouts(int max_ranks) {
  std::vector<LayoutChoice> choices;
  const auto add = [&](int ranks, int pipeline, int expert, const char* schedule) {
    const size_t i = choices.size();
    LayoutChoice choice{.ranks = ranks, .threads = 1 + static_cast<int>(i / 2 % 2)};
    constexpr int64_t kMicroRows[] = {0, 4, 3, 2};  // 0: as the layout chooses
    choice.micro_rows = kMicroRows[i % 4];
    choice.parallel.pipeline = pipeline;
    choice.parallel.expert = expert;
    choice.parallel.schedule = schedule;
    choice.parallel.overlap = i % 3 != 0;
    choice.parallel.zero = i % 2 == 1 ? 2 : 1;
    // Some exchanges in two hops.
    if (expert > 2 && expert % 2 == 0 && i % 2 == 0) choice.parallel.ranks_per_node = 2;
    choices.push_back(choice);
  };
  for (int ranks = 1; ranks <= max_ranks; ++ranks) {
    if (ranks % 2 == 1 && ranks > 1 && ranks < max_ranks) continue;
    for (int pipeline = 1; pipeline <= ranks; ++pipeline) {
      if (ranks % pipeline != 0) continue;
      for (int expert = 1; expert <= ranks / pipeline; ++expert) {
        if (ranks / pipeline % expert != 0) continue;
        // Schedules of one pipeline rank differ in the order of its micro-batches alone: once is enough.
        const std::span<const char* const> schedules = parallel::kScheduleNames;
        for (const char* schedule : pipeline > 1 || ranks == 1 ? schedules : schedules.first(1)) {
          add(ranks, pipeline, expert, schedule);
        }
      }
    }
  }
  return choices;
}

}  // namespace conclave::optim
