// SPDX-License-Identifier: Apache-2.0
// The teacher of a student that learns its distributions: a model of its own size, cut over the ranks of the run by the
// student's config, with the weights of its folder. Also what any teacher must have in common with its student.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"

#include "core/config/config.h"
#include "core/model/model.h"
#include "data/tokenizer.h"
#include "optim/teacher.h"
#include "optim/trainer.h"
#include "parallel/job.h"
#include "parallel/layout.h"

namespace conclave::launch {

struct RunParts;

struct TeacherParts {  // freed from the last to the first
  core::ModelConfig model_config;
  std::unique_ptr<parallel::Layout> layout;
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Teacher> states;

  int64_t bytes() const;  // of this rank: weights, states and passes
};

// An error if the ids of the two do not mean the same.
absl::Status CheckSameTokenizer(const core::Config& config, const data::Tokenizer& teacher,
                                const data::Tokenizer& student);

// Where the config asks for a teacher beside the student: sets student.teacher, with its model config alone; an error
// if the student cannot learn from it. The student's tokenizer and model config are there.
absl::Status LoadTeacherConfig(const core::Config& config, RunParts& student);

// Fills in the rest of student.teacher, if there is one; the student's layout and device are there. Collective, errors
// agreed on. The job outlives the parts.
absl::Status CreateTeacher(const core::Config& config, parallel::Job& job, RunParts& student);

// From the next step on `trainer` learns from it; its states must be those of the step's batch.
void LearnFrom(const core::Config& config, const TeacherParts& teacher, optim::Trainer& trainer);

}  // namespace conclave::launch
