// SPDX-License-Identifier: Apache-2.0
#include "launch/teacher_parts.h"

#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/config/hf_config.h"
#include "launch/model_loading.h"
#include "launch/problem_evaluation.h"
#include "launch/run_parts.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

absl::Status OfTeacher(const absl::Status& status) {
  if (status.ok()) return status;
  return UsageError(absl::StrFormat("teacher: %s", std::string(status.message())));
}

absl::Status CheckPositionsOf(const core::Config& config, const core::ModelConfig& teacher) {
  if (config.TrainsOnRollouts()) return OfTeacher(CheckPositions(config, teacher));
  if (config.data.sequence_length <= teacher.max_position_embeddings) return absl::OkStatus();
  return UsageError(absl::StrFormat("data.sequence_length: %d is more than the %d positions of the teacher in %s",
                                    config.data.sequence_length, teacher.max_position_embeddings, config.teacher));
}

}  // namespace

int64_t TeacherParts::bytes() const {
  int64_t bytes = states->bytes();
  for (const auto& row : model->params().memory()) bytes += row.bytes;
  return bytes;
}

absl::Status CheckSameTokenizer(const core::Config& config, const data::Tokenizer& teacher,
                                const data::Tokenizer& student) {
  if (teacher.vocab_size() == student.vocab_size() && teacher.Fingerprint() == student.Fingerprint()) {
    return absl::OkStatus();
  }
  return UsageError(absl::StrFormat(
      "teacher: %s has another tokenizer (%d ids, fingerprint %s) than the student (%d ids, fingerprint %s), which "
      "would not learn the tokens that were drawn. Give data.tokenizer: %s, with a model made anew or one that was "
      "trained with it, or another teacher",
      config.teacher, teacher.vocab_size(), teacher.Fingerprint(), student.vocab_size(), student.Fingerprint(),
      config.teacher));
}

absl::Status LoadTeacherConfig(const core::Config& config, RunParts& student) {
  if (!config.LearnsDistributions()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(config.teacher));
  ASSIGN_OR_RETURN(FolderConfig folder, ReadFolderConfig(dir));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizerOf(dir));
  RETURN_IF_ERROR(CheckSameTokenizer(config, *tokenizer, *student.tokenizer));
  const core::ModelConfig& teacher = folder.model;
  if (teacher.vocab_size != student.model_config.vocab_size) {
    return UsageError(absl::StrFormat(
        "teacher: the model in %s has distributions over %d ids (vocab_size), the student over %d; distill.loss: %s "
        "needs the same. Give model.vocab_size: %d for a student made anew, or distill.loss: samples",
        config.teacher, teacher.vocab_size, student.model_config.vocab_size, config.distill.loss, teacher.vocab_size));
  }
  if (config.ComputePrecision() == core::Precision::kBf16) {
    RETURN_IF_ERROR(OfTeacher(core::ValidateForBf16(teacher)));
  }
  RETURN_IF_ERROR(CheckPositionsOf(config, teacher));
  student.teacher = std::make_unique<TeacherParts>();
  student.teacher->model_config = std::move(folder.model);
  return absl::OkStatus();
}

absl::Status CreateTeacher(const core::Config& config, parallel::Job& job, RunParts& student) {
  if (!student.teacher) return absl::OkStatus();
  TeacherParts& teacher = *student.teacher;
  const core::Config& trainer = student.trainer_config;
  auto layout = parallel::Layout::Create(trainer, teacher.model_config, optim::BatchRows(trainer.batch), job.world(),
                                         job.ranks_per_host());
  RETURN_IF_ERROR(job.AgreeOn(OfTeacher(layout.status())));
  teacher.layout = *std::move(layout);
  const auto options =
      ModelOptions(config, core::ParamSet::Purpose::kInference, *teacher.layout, student.operations.get());
  auto model = core::Model::Create(teacher.model_config, *student.device, options);
  RETURN_IF_ERROR(job.AgreeOn(model.status()));
  teacher.model = *std::move(model);
  RETURN_IF_ERROR(LoadWeightsInto(config.teacher, job, *teacher.model));
  auto states = optim::Teacher::Create(*teacher.model, *teacher.layout, trainer.batch.sequences);
  RETURN_IF_ERROR(job.AgreeOn(states.status()));
  teacher.states = *std::move(states);
  return absl::OkStatus();
}

void LearnFrom(const core::Config& config, const TeacherParts& teacher, optim::Trainer& trainer) {
  using Direction = core::DivergenceArgs::Direction;
  trainer.SetTeacher({.direction = config.distill.loss == "reverse_kl" ? Direction::kReverse : Direction::kForward,
                      .teacher_head = teacher.states->head()},
                     static_cast<float>(config.distill.temperature), teacher.states->hidden());
}

}  // namespace conclave::launch
