// SPDX-License-Identifier: Apache-2.0
#include "launch/run_checkpoints.h"

#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/weight_assignment.h"
#include "core/config/hf_config.h"
#include "core/config/yaml.h"
#include "launch/ranks.h"
#include "optim/weights.h"
#include "rl/grpo_config.h"

namespace conclave::launch {
namespace {

// That of the folder the weights came from, else plain sampling, spelled out: the defaults of transformers are others.
std::string GenerationConfig(const RunParts& parts) {
  if (!parts.generation_config.empty()) return parts.generation_config;
  const data::Tokenizer& tokenizer = *parts.tokenizer;
  nlohmann::ordered_json json;
  if (tokenizer.bos_id() >= 0) json["bos_token_id"] = tokenizer.bos_id();
  if (tokenizer.eos_id() >= 0) json["eos_token_id"] = tokenizer.eos_id();
  if (tokenizer.pad_id() >= 0) json["pad_token_id"] = tokenizer.pad_id();
  json["do_sample"] = true;
  json["temperature"] = 1.0;
  json["top_k"] = 0;
  json["top_p"] = 1.0;
  return json.dump(2) + "\n";
}

bool WeightsAreBf16(const core::Config& config) {
  return (config.checkpoint.weights.empty() ? config.precision : config.checkpoint.weights) == "bf16";
}

absl::Status CheckData(const Resume& resume, const core::Config& config, const std::string& now) {
  const std::string& before = resume.meta.data_fingerprint;
  if (before.empty() || before == now) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "the data is not that of the run in %s: since %s was written, its files, their order or the tokenizer have "
      "changed (fingerprint %s, now %s), so its place in the data means nothing. Bring back the data to go on with "
      "that "
      "run, or give another run.dir to start a new one; model.from=%s starts it from these weights",
      config.run.dir, resume.path, before, now, resume.path));
}

absl::Status CheckContinuesFrom(const Resume& resume, const core::Config& config) {
  ASSIGN_OR_RETURN(const core::Config before, core::ParseConfig(resume.meta.config_yaml, resume.path, {}));
  RETURN_IF_ERROR(CheckContinues(before, config));
  if (config.TrainsOnRollouts()) return absl::OkStatus();  // how many prompts a step draws is its own affair
  const int64_t position = optim::PositionOfStep(config.batch, resume.meta.step + 1);
  if (resume.meta.data_position == position) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("%s says that %d rows were drawn, by its config it is %d", resume.path,
                                             resume.meta.data_position, position));
}

// The newest checkpoint that verifies; "" if there is none at all.
absl::StatusOr<std::string> FindSound(const RunFolder& folder) {
  std::vector<std::string> warnings;
  ASSIGN_OR_RETURN(const std::optional<std::string> path,
                   core::FindLatestCheckpoint(folder.CheckpointsPath(), &warnings));
  if (!path && !warnings.empty()) {
    return absl::DataLossError(absl::StrFormat(
        "run folder %s has no checkpoint that is whole: %s. Bring one back, or give another run.dir to start anew",
        folder.dir(), absl::StrJoin(warnings, "; ")));
  }
  for (const std::string& warning : warnings) core::LogWarning(warning);
  return path.value_or("");
}

// Of the whole weights that this rank holds, those that it writes.
std::vector<core::StateTensor> ShareOf(const std::vector<core::StateTensor>& held, parallel::Comm& world) {
  std::string names;
  for (const core::StateTensor& weight : held) absl::StrAppend(&names, weight.name, " ", weight.box.Elements(), "\n");
  std::map<std::string, core::HeldWeight> by_name;
  const std::vector<std::string> names_of_ranks = world.GatherTexts(names);
  for (int rank = 0; rank < world.size(); ++rank) {
    for (const absl::string_view line : absl::StrSplit(names_of_ranks[rank], '\n', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> fields = absl::StrSplit(line, ' ');
      core::HeldWeight& weight = by_name[fields.first];
      weight.name = fields.first;
      CHECK(absl::SimpleAtoi(fields.second, &weight.bytes));  // as many for each element
      weight.holders.push_back(rank);
    }
  }
  std::vector<core::HeldWeight> all;
  for (auto& [name, weight] : by_name) all.push_back(std::move(weight));
  const std::vector<int> writers = core::AssignWeights(all, world.size());
  std::set<std::string> own;
  for (size_t i = 0; i < all.size(); ++i) {
    if (writers[i] == world.rank()) own.insert(all[i].name);
  }
  std::vector<core::StateTensor> share;
  for (const core::StateTensor& weight : held) {
    if (own.contains(weight.name)) share.push_back(weight);
  }
  return share;
}

}  // namespace

std::string ExtendSampleChain(const std::string& chain, const std::vector<int64_t>& row_ids) {
  core::Hasher hasher;
  hasher.Update(chain.data(), chain.size());
  hasher.Update(row_ids.data(), row_ids.size() * sizeof(int64_t));
  return hasher.HexDigest();
}

std::string HistoryLine(const core::Config& config, int64_t step, const RunParts& parts) {
  const std::string how = step > 0 ? "resumed" : config.model.from.empty() ? "new" : "new, from " + config.model.from;
  std::string line = absl::StrFormat("step %d: %s, %s", step, how, parts.device->Description());
  if (parts.layout->all().size() > 1) line += ", " + parts.layout->Summary();
  return line;
}

absl::StatusOr<std::optional<Resume>> FindResume(const RunFolder& folder, parallel::Job& job) {
  ASSIGN_OR_RETURN(const std::string path, FromFirst(job, [&folder] { return FindSound(folder); }));
  if (path.empty()) return std::nullopt;
  absl::StatusOr<core::CheckpointMeta> meta = core::ReadCheckpointMeta(path);
  RETURN_IF_ERROR(job.AgreeOn(meta.status()));
  return Resume{path, *std::move(meta)};
}

absl::Status CheckResume(const Resume& resume, const core::Config& config, parallel::Job& job) {
  return job.AgreeOn(CheckContinuesFrom(resume, config));
}

absl::StatusOr<RunState> RestoreRun(const Resume& resume, const core::Config& config, RunParts& parts,
                                    parallel::Job& job) {
  RETURN_IF_ERROR(job.AgreeOn(CheckData(resume, config, parts.data_fingerprint)));
  RETURN_IF_ERROR(job.AgreeOn(core::RestoreState(resume.path, optim::RestoredTensors(*parts.model))));
  parts.trainer->Refresh();
  const std::string device = InstructionSet(*parts.device);
  if (IsFirst(job) && resume.meta.device != device && config.ComputePrecision() != core::Precision::kF32) {
    core::LogWarning(absl::StrFormat("this run was made on %s and goes on on %s: in precision %s, bits depend on that",
                                     resume.meta.device, device, config.precision));
  }
  return RunState{.step = resume.meta.step,
                  .data_position = resume.meta.data_position,
                  .sample_chain = resume.meta.sample_chain,
                  .history = resume.meta.history};
}

CheckpointWriter::CheckpointWriter(const RunFolder& folder, const core::Config& config, std::string version,
                                   const RunParts& parts, parallel::Job& job)
    : folder_(folder), config_(config), version_(std::move(version)), parts_(parts), job_(job) {
  ShareWeights();
}

void CheckpointWriter::ShareWeights() { weights_ = ShareOf(optim::HfWeights(*parts_.model), job_.world()); }

core::CheckpointMeta CheckpointWriter::Meta(const RunState& state) const {
  return {.step = state.step,
          .data_position = state.data_position,
          .seed = static_cast<uint64_t>(config_.train.seed),
          .config_yaml = core::WriteConfig(config_),
          .device = InstructionSet(*parts_.device),
          .precision = config_.precision,
          .sample_chain = state.sample_chain,
          .data_fingerprint = parts_.data_fingerprint,
          .program_version = version_,
          .history = state.history};
}

core::SaveRequest CheckpointWriter::Request(const RunState& state) const {
  const bool bf16 = WeightsAreBf16(config_);
  core::SaveRequest request{.parent = folder_.CheckpointsPath(),
                            .meta = Meta(state),
                            .weights = weights_,
                            .weights_dtype = bf16 ? core::DType::kBf16 : core::DType::kF32,
                            .keep_f32 = optim::RouterBiasNames(*parts_.model),
                            .optimizer = optim::OptimizerTensors(*parts_.model)};
  if (!IsFirst(job_)) return request;  // rank 0 publishes
  request.files = parts_.tokenizer->Files();
  request.files["config.json"] = core::WriteHfConfig(parts_.model_config, bf16 ? "bfloat16" : "float32");
  request.files["generation_config.json"] = GenerationConfig(parts_);
  return request;
}

std::map<std::string, std::vector<float>> CheckpointWriter::GatherWeights(
    std::vector<core::StateTensor>& weights) const {
  std::map<std::string, std::vector<float>> gathered;
  for (core::StateTensor& weight : weights) {
    if (weight.data != nullptr) continue;
    std::vector<float>& memory = gathered[weight.name];
    memory.resize(weight.box.Elements());
    weight.data = memory.data();
  }
  parts_.trainer->VisitCutMasters([&](const core::Param& param, core::Tensor whole) {
    for (const core::ParamPart& part : param.spec.parts) {
      const auto memory = gathered.find(part.hf_name);
      if (memory == gathered.end()) continue;
      const core::Tensor flat = whole.Reshape({whole.Elements()}).Slice(0, part.offset, part.Elements());
      parts_.device->CopyToHost(parts_.model->stream(), flat, memory->second.data());
      parts_.device->Synchronize(parts_.model->stream());
    }
  });
  return gathered;
}

absl::StatusOr<std::string> CheckpointWriter::Save(const RunState& state) const {
  core::SaveRequest request = Request(state);
  const auto gathered = GatherWeights(request.weights);
  const core::Part part{.index = job_.world().rank(), .count = job_.world().size()};
  ASSIGN_OR_RETURN(const std::string folder,
                   FromFirst(job_, [&] { return core::PrepareSave(request.parent, request.meta.step); }));
  // A rank that cannot write says so in its fragment.
  const std::vector<std::string> fragments = job_.world().GatherTexts(core::WritePart(request, folder, part));
  ASSIGN_OR_RETURN(std::string path, FromFirst(job_, [&] { return core::PublishSave(request, folder, fragments); }));
  RETURN_IF_ERROR(job_.AgreeOn(core::VerifyCheckpoint(path, part)));
  if (!IsFirst(job_)) return path;
  const absl::Status removed = core::RemoveOldCheckpoints(folder_.CheckpointsPath(), config_.train.keep,
                                                          rl::ReferenceStep(config_.grpo, state.step));
  if (!removed.ok()) core::LogWarning(absl::StrFormat("old checkpoints stay: %s", std::string(removed.message())));
  return path;
}

}  // namespace conclave::launch
