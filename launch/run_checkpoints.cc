// SPDX-License-Identifier: Apache-2.0
#include "launch/run_checkpoints.h"

#include <string_view>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/config/hf_config.h"
#include "core/config/yaml.h"
#include "optim/weights.h"

namespace conclave::launch {
namespace {

// "cpu avx2, 2 threads" -> "cpu avx2": what decides bits.
std::string WithoutThreads(const std::string& description) { return description.substr(0, description.find(',')); }

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

absl::Status CheckData(const Resume& resume, const core::Config& config, const data::Loader& loader) {
  const std::string before = resume.meta.data_fingerprint, now = loader.Fingerprint();
  if (before.empty() || before == now) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "the data is not that of the run in %s: since %s was written, its files, their order or the tokenizer have "
      "changed (fingerprint %s, now %s), so its place in the data means nothing. Bring back the data to go on with "
      "that "
      "run, or give another run.dir to start a new one; model.from=%s starts it from these weights",
      config.run.dir, resume.path, before, now, resume.path));
}

}  // namespace

std::string ExtendSampleChain(const std::string& chain, const std::vector<int64_t>& row_ids) {
  core::Hasher hasher;
  hasher.Update(chain.data(), chain.size());
  hasher.Update(row_ids.data(), row_ids.size() * sizeof(int64_t));
  return hasher.HexDigest();
}

std::string HistoryLine(const core::Config& config, int64_t step, const std::string& device) {
  const std::string how = step > 0 ? "resumed" : config.model.from.empty() ? "new" : "new, from " + config.model.from;
  return absl::StrFormat("step %d: %s, %s", step, how, device);
}

absl::StatusOr<std::optional<Resume>> FindResume(const RunFolder& folder) {
  std::vector<std::string> warnings;
  ASSIGN_OR_RETURN(const std::optional<std::string> path,
                   core::FindLatestCheckpoint(folder.CheckpointsPath(), &warnings));
  for (const std::string& warning : warnings) core::LogWarning(warning);
  if (!path) return std::nullopt;
  ASSIGN_OR_RETURN(core::CheckpointMeta meta, core::ReadCheckpointMeta(*path));
  return Resume{*path, std::move(meta)};
}

absl::Status CheckResume(const Resume& resume, const core::Config& config) {
  ASSIGN_OR_RETURN(const core::Config before, core::ParseConfig(resume.meta.config_yaml, resume.path, {}));
  RETURN_IF_ERROR(CheckContinues(before, config));
  const int64_t position = optim::PositionOfStep(config.batch, resume.meta.step + 1);
  if (resume.meta.data_position == position) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("%s says that %d rows were drawn, by its config it is %d", resume.path,
                                             resume.meta.data_position, position));
}

absl::StatusOr<RunState> RestoreRun(const Resume& resume, const core::Config& config, RunParts& parts) {
  RETURN_IF_ERROR(CheckData(resume, config, *parts.loader));
  RETURN_IF_ERROR(core::RestoreState(resume.path, optim::RestoredTensors(*parts.model)));
  parts.model->Refresh();
  const std::string device = WithoutThreads(parts.device->Description());
  if (resume.meta.device != device && config.ComputePrecision() != core::Precision::kF32) {
    core::LogWarning(absl::StrFormat("this run was made on %s and goes on on %s: in precision %s, bits depend on that",
                                     resume.meta.device, device, config.precision));
  }
  return RunState{.step = resume.meta.step,
                  .data_position = resume.meta.data_position,
                  .sample_chain = resume.meta.sample_chain,
                  .history = resume.meta.history};
}

core::CheckpointMeta CheckpointWriter::Meta(const RunState& state) const {
  return {.step = state.step,
          .data_position = state.data_position,
          .seed = static_cast<uint64_t>(config_.train.seed),
          .config_yaml = core::WriteConfig(config_),
          .device = WithoutThreads(parts_.device->Description()),
          .precision = config_.precision,
          .sample_chain = state.sample_chain,
          .data_fingerprint = parts_.loader->Fingerprint(),
          .program_version = version_,
          .history = state.history};
}

absl::StatusOr<std::string> CheckpointWriter::Save(const RunState& state) const {
  const bool bf16 = WeightsAreBf16(config_);
  core::SaveRequest request{.parent = folder_.CheckpointsPath(),
                            .meta = Meta(state),
                            .weights = optim::HfWeights(*parts_.model),
                            .weights_dtype = bf16 ? core::DType::kBf16 : core::DType::kF32,
                            .keep_f32 = optim::RouterBiasNames(*parts_.model),
                            .optimizer = optim::OptimizerTensors(*parts_.model),
                            .files = parts_.tokenizer->Files()};
  request.files["config.json"] = core::WriteHfConfig(parts_.model_config, bf16 ? "bfloat16" : "float32");
  request.files["generation_config.json"] = GenerationConfig(parts_);
  ASSIGN_OR_RETURN(std::string path, core::SaveCheckpoint(request));
  RETURN_IF_ERROR(core::VerifyCheckpoint(path));
  const absl::Status removed = core::RemoveOldCheckpoints(folder_.CheckpointsPath(), config_.train.keep);
  if (!removed.ok()) core::LogWarning(absl::StrFormat("old checkpoints stay: %s", std::string(removed.message())));
  return path;
}

}  // namespace conclave::launch
