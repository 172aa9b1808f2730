// SPDX-License-Identifier: Apache-2.0
#include "launch/run_parts.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/model_folder.h"
#include "data/sft_loader.h"
#include "launch/load_display.h"
#include "launch/model_loading.h"
#include "launch/problem_evaluation.h"
#include "launch/ranks.h"
#include "launch/run_folder.h"
#include "launch/signals.h"
#include "launch/usage_error.h"
#include "optim/weights.h"
#include "rl/grpo_config.h"
#include "rl/rejection.h"

namespace conclave::launch {
namespace {

constexpr int64_t kMaxGenerationConfigBytes = 1 << 20;

absl::Status CheckFolderModel(const core::Config& config, const core::ModelConfig& model) {
  if (config.ComputePrecision() == core::Precision::kBf16) {
    RETURN_IF_ERROR(AsUsageError(core::ValidateForBf16(model)));
  }
  // Rows of rollouts hold several responses, each with positions of its own.
  if (config.DrawsResponses() || config.data.sequence_length <= model.max_position_embeddings) return absl::OkStatus();
  return UsageError(absl::StrFormat("data.sequence_length: %d is more than the %d positions of the model in %s",
                                    config.data.sequence_length, model.max_position_embeddings, config.model.from));
}

// What of stages that draw responses a model may not be made for.
absl::Status CheckRollouts(const core::Config& config, const core::ModelConfig& model) {
  RETURN_IF_ERROR(CheckCache("rollout.cache", config.rollout.cache, model));
  if (!config.ReplaysRouter()) return absl::OkStatus();
  const std::vector<int64_t> layers = core::MoeLayers(model);
  if (!layers.empty() && layers.front() < model.num_hidden_layers) return absl::OkStatus();
  return UsageError("grpo.router_replay: true needs a model with experts, and this one has none; leave it out");
}

void FillIds(int32_t bos, int32_t eos, core::ModelConfig& model) {
  if (model.bos_token_id < 0) model.bos_token_id = bos;
  if (model.eos_token_id < 0) model.eos_token_id = eos;
}

// data.tokenizer, where "auto" means that of the folder the weights come from, "" if they come from none.
absl::StatusOr<std::unique_ptr<data::Tokenizer>> ChooseTokenizer(const std::string& name, const std::string& folder) {
  if (name != "auto") return LoadTokenizerOf(name);
  if (folder.empty()) return data::LoadTokenizer("bytes");
  auto tokenizer = data::LoadTokenizer(folder);
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(), absl::StrFormat("%s; name another with data.tokenizer",
                                                                 std::string(tokenizer.status().message())));
}

absl::StatusOr<std::string> InKey(std::string_view key, absl::StatusOr<std::string> value) {
  if (value.ok()) return value;
  return absl::Status(value.status().code(), absl::StrFormat("%s: %s", key, std::string(value.status().message())));
}

absl::StatusOr<std::string> ReadGenerationConfig(const std::string& folder) {
  const std::string path = folder + "/generation_config.json";
  if (!core::FileExists(path)) return "";
  return core::ReadTextFile(path, kMaxGenerationConfigBytes);
}

// Sources of problems among those of data.validation: where there are no rows of text all of them, else tasks.
core::DataConfig ProblemData(const core::Config& config) {
  core::DataConfig data = config.data;
  if (config.DrawsResponses()) return data;
  std::erase_if(data.validation, [](const core::SourceConfig& source) { return source.task.empty(); });
  return data;
}

absl::Status ReadProblems(const core::Config& config, RunParts& parts) {
  if (config.stage == "pretrain") return absl::OkStatus();
  parts.problem_data = ProblemData(config);
  const data::PromptContext context{parts.problem_data, config.tasks, *parts.tokenizer};
  ASSIGN_OR_RETURN(parts.problems, data::ReadValidationPrompts(context, config.eval.prompts));
  if (!parts.problems.empty() || config.DrawsResponses()) {
    RETURN_IF_ERROR(CheckPositions(config, parts.model_config));
  }
  if (!config.DrawsResponses()) return absl::OkStatus();
  RETURN_IF_ERROR(CheckVocabulary(*parts.tokenizer, parts.model_config));
  const uint64_t seed =
      config.stage == "reject" ? rl::RejectionSeed(config.train.seed) : static_cast<uint64_t>(config.train.seed);
  ASSIGN_OR_RETURN(parts.prompts, data::PromptSet::Create(context, seed));
  RETURN_IF_ERROR(data::CheckDisjoint(*parts.prompts, parts.problems));
  parts.data_fingerprint = parts.prompts->Fingerprint();
  return absl::OkStatus();
}

absl::Status ReadRows(const core::Config& config, const data::LoadOptions& options, RunParts& parts) {
  RETURN_IF_ERROR(ReadProblems(config, parts));
  if (config.DrawsResponses()) return absl::OkStatus();
  ASSIGN_OR_RETURN(parts.loader, OpenLoader(config, parts, options));
  parts.data_fingerprint = parts.loader->Fingerprint();
  return absl::OkStatus();
}

// One rank of each host reads the data first, with all processors; what it has tokenized is there for the others.
absl::Status CreateLoader(const core::Config& config, int threads, parallel::Job& job, RunParts& parts) {
  absl::Status read;
  if (IsFirst(job)) {
    LoadDisplay display;
    read = ReadRows(config, display.Options(threads), parts);
  } else if (job.local_rank() == 0) {
    read = ReadRows(config, QuietLoadOptions(threads), parts);
  }
  RETURN_IF_ERROR(job.AgreeOn(read));
  if (parts.data_fingerprint.empty()) read = ReadRows(config, QuietLoadOptions(1), parts);
  RETURN_IF_ERROR(job.AgreeOn(read));
  return job.CheckSame("the data", "fingerprint " + parts.data_fingerprint);
}

// Of stage reject: no rows are trained on, but the layout is that of a schedule; this many rows are enough for each.
core::Config TrainerConfig(const core::Config& config, int ranks) {
  if (config.TrainsOnRollouts()) return rl::TrainerConfig(config);
  core::Config trainer = config;
  if (config.stage == "reject") {
    trainer.batch = {.sequences = 2 * ranks * config.parallel.virtual_stages, .micro_sequences = 1};
  }
  return trainer;
}

absl::Status CreateModel(const core::Config& config, RunParts& parts) {
  ASSIGN_OR_RETURN(parts.model, core::Model::Create(parts.model_config, *parts.device,
                                                    ModelOptions(config, core::ParamSet::Purpose::kTraining,
                                                                 *parts.layout, parts.operations.get())));
  const int64_t teacher_hidden = parts.teacher ? parts.teacher->model_config.hidden_size : 0;
  ASSIGN_OR_RETURN(parts.trainer,
                   optim::Trainer::Create(*parts.model, parts.trainer_config, *parts.layout, teacher_hidden));
  parts.trainer->AskForStop([] { return StopReason(StopSignals::Requested()); });
  if (!config.ReplaysRouter()) return absl::OkStatus();
  return parts.trainer->PlanReplay(config.grpo.minibatches, rl::RowsOfMinibatch(config));
}

absl::Status LoadFrom(const std::string& from, core::Model& model) {
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(from));
  ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
  return optim::LoadWeights(folder, optim::MissingMtp::kKeepInitial, model);
}

absl::Status SetFirstWeights(const core::Config& config, parallel::Job& job, core::Model& model) {
  const double std = config.train.init_std > 0 ? config.train.init_std : model.config().initializer_range;
  model.params().Initialize(model.kernels(), static_cast<uint64_t>(config.train.seed), std);
  return config.model.from.empty() ? absl::OkStatus() : job.AgreeOn(LoadFrom(config.model.from, model));
}

}  // namespace

absl::StatusOr<std::unique_ptr<data::Loader>> OpenLoader(const core::Config& config, const RunParts& parts,
                                                         const data::LoadOptions& options) {
  const int64_t vocab_size = parts.model_config.vocab_size;
  if (config.stage == "sft") return data::CreateSftLoader(config, *parts.tokenizer, vocab_size, options);
  if (config.stage == "distill") {
    core::Config on_samples = config;
    on_samples.sft.data.clear();
    on_samples.data.train.assign(1, {});
    on_samples.data.train[0].path = RunFolder::At(config.run.dir).TeacherSamplesPath();
    return data::CreateSftLoader(on_samples, *parts.tokenizer, vocab_size, options);
  }
  return data::Loader::Create(config.data, *parts.tokenizer, vocab_size, static_cast<uint64_t>(config.train.seed),
                              options, config.tasks);
}

std::string InstructionSet(const core::Device& device) {
  const std::string description = device.Description();
  return description.substr(0, description.find(','));
}

absl::Status LoadTokenizerAndModelConfig(core::Config& config, RunParts& parts) {
  std::string dir;
  if (!config.model.from.empty()) {
    ASSIGN_OR_RETURN(dir, FindModelFolder(config.model.from));
  }
  std::string vocabulary = dir;
  if (config.stage == "distill" && dir.empty()) {
    ASSIGN_OR_RETURN(vocabulary, InKey("teacher", FindModelFolder(config.teacher)));
  }
  ASSIGN_OR_RETURN(parts.tokenizer, ChooseTokenizer(config.data.tokenizer, vocabulary));
  const data::Tokenizer& tokenizer = *parts.tokenizer;
  if (!dir.empty()) {
    ASSIGN_OR_RETURN(FolderConfig folder, ReadFolderConfig(dir));
    ASSIGN_OR_RETURN(parts.generation_config, ReadGenerationConfig(dir));
    parts.model_config = std::move(folder.model);
    // Documents begin and end with the ids of this run's tokenizer.
    parts.model_config.bos_token_id = parts.model_config.eos_token_id = -1;
    FillIds(tokenizer.bos_id(), tokenizer.eos_id(), parts.model_config);
    RETURN_IF_ERROR(CheckFolderModel(config, parts.model_config));
    return CheckRollouts(config, parts.model_config);
  }
  if (config.model.vocab_size == 0) config.model.vocab_size = tokenizer.vocab_size();
  FillIds(tokenizer.bos_id(), tokenizer.eos_id(), config.model);
  parts.model_config = config.model;
  return CheckRollouts(config, parts.model_config);
}

absl::Status CreateLayoutAndDevice(const core::Config& config, int threads, parallel::Job& job, RunParts& parts) {
  parts.trainer_config = TrainerConfig(config, job.world().size());
  auto layout =
      parallel::Layout::Create(parts.trainer_config, parts.model_config, optim::BatchRows(parts.trainer_config.batch),
                               job.world(), job.ranks_per_host(), parts.trace.get());
  RETURN_IF_ERROR(job.AgreeOn(AsUsageError(layout.status())));
  parts.layout = *std::move(layout);
  job.SetPlace(parts.layout->mesh().PlaceText(job.world().rank()));
  auto device = core::CreateDevice({.num_threads = ThreadsOfRank(job, threads)});
  RETURN_IF_ERROR(job.AgreeOn(device.status()));
  parts.device = *std::move(device);
  if (config.ComputePrecision() == core::Precision::kF32) return absl::OkStatus();
  return job.CheckSame("the instruction set, on which bits of bf16 depend,", InstructionSet(*parts.device));
}

absl::Status CreateParts(const core::Config& config, int threads, parallel::Job& job, RunParts& parts) {
  RETURN_IF_ERROR(CreateLayoutAndDevice(config, threads, job, parts));
  RETURN_IF_ERROR(CreateLoader(config, threads, job, parts));
  RETURN_IF_ERROR(CreateTeacher(config, job, parts));
  if (config.stage != "reject") return job.AgreeOn(CreateModel(config, parts));
  ASSIGN_OR_RETURN(parts.model, CreateFrozenModel(config, job, parts));
  return absl::OkStatus();
}

absl::Status RecreateModel(const core::Config& config, parallel::Job& job, RunParts& parts) {
  parts.trainer.reset();
  parts.model.reset();
  return job.AgreeOn(CreateModel(config, parts));
}

core::Model::Options ModelOptions(const core::Config& config, core::ParamSet::Purpose purpose,
                                  const parallel::Layout& layout, core::OperationProfile* profile) {
  int64_t positions = config.data.sequence_length;
  if (config.stage != "pretrain") {
    positions = std::max(positions, config.data.max_prompt_tokens + config.rollout.max_tokens);
  }
  core::Model::Options options{.precision = config.ComputePrecision(),
                               .purpose = purpose,
                               .training = core::TrainingStateOf(config),
                               .cache = CacheNamed(config.rollout.cache),
                               .max_positions = positions,
                               .profile = profile};
  layout.Describe(options);
  return options;
}

absl::StatusOr<std::unique_ptr<core::Model>> CreateInferenceModel(const core::Config& config, parallel::Job& job,
                                                                  const RunParts& parts) {
  auto model = core::Model::Create(
      parts.model_config, *parts.device,
      ModelOptions(config, core::ParamSet::Purpose::kInference, *parts.layout, parts.operations.get()));
  RETURN_IF_ERROR(job.AgreeOn(model.status()));
  return model;
}

absl::StatusOr<std::unique_ptr<core::Model>> CreateFrozenModel(const core::Config& config, parallel::Job& job,
                                                               const RunParts& parts) {
  auto model = CreateInferenceModel(config, job, parts);
  RETURN_IF_ERROR(model.status());
  RETURN_IF_ERROR(SetFirstWeights(config, job, **model));
  (*model)->Refresh();
  return model;
}

absl::Status LoadWeightsInto(const std::string& folder, parallel::Job& job, core::Model& model) {
  RETURN_IF_ERROR(job.AgreeOn(LoadFrom(folder, model)));
  model.Refresh();
  return absl::OkStatus();
}

absl::Status InitializeWeights(const core::Config& config, parallel::Job& job, RunParts& parts) {
  RETURN_IF_ERROR(SetFirstWeights(config, job, *parts.model));
  parts.trainer->Refresh();
  parts.trainer->StartEma();
  return absl::OkStatus();
}

}  // namespace conclave::launch
