// SPDX-License-Identifier: Apache-2.0
// The layout law as a program: the same short training in many layouts, ranks as threads of this process, and the
// states they end in, put together from what the ranks hold. What tests run on a small model, `conclave check-layouts`
// runs on a user's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/batch.h"
#include "core/model/model.h"

namespace conclave::optim {

struct LayoutChoice {
  int ranks = 1;
  int threads = 1;         // of each rank
  int64_t micro_rows = 0;  // batch.micro_sequences
  core::ParallelConfig parallel;

  std::string Text() const;  // "8 ranks: pipeline 4, expert 2, dualpipev, micro-batches of 3, 2 threads"
};

// Whose distributions a task's model learns, if there is a teacher.
struct TaskTeacher {
  core::ModelConfig model;
  std::function<absl::Status(core::Model&)> initialize;
  core::DivergenceArgs::Direction direction = core::DivergenceArgs::Direction::kForward;
};

// What is trained: the same in every layout.
struct LayoutTask {
  core::Config config;  // its parallel and batch.micro_sequences give way to the choice's
  core::ModelConfig model;
  int64_t steps = 1;
  std::function<core::Batch(int64_t step)> batch;        // called by several threads
  std::function<absl::Status(core::Model&)> initialize;  // weights of a rank's part; the same
  core::PolicyRule rule = {};                            // of batches that a policy learns from
  float temperature = 1;                                 // of these, of a teacher, and of the last batch
  std::optional<TaskTeacher> teacher = {};
  // Router replay: above 0 steps take the first so many batches in turns, with the experts that the first weights
  // choose.
  int64_t replayed_batches = 0;
};

struct LayoutOutcome {
  std::string hash;             // of masters, moments, averages, router biases
  std::vector<double> figures;  // losses and norms of all steps, and the loss of one more batch
  bool memory_as_planned = true;
  double seconds = 0;
};

// An InvalidArgument error if there is no such layout: its reason.
absl::StatusOr<LayoutOutcome> RunLayout(const LayoutTask& task, const LayoutChoice& choice);

// Layouts of 1 to `max_ranks` ranks: every cut into pipeline, data and expert ranks x every schedule; threads,
// micro-batches and nodes change along the list. Not all are legal.
std::vector<LayoutChoice> ListLayouts(int max_ranks);

}  // namespace conclave::optim
