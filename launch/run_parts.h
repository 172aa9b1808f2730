// SPDX-License-Identifier: Apache-2.0
// What a training run is made of on one rank, from a config: tokenizer, rows of text, device, layout, model, trainer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "core/base/trace.h"
#include "core/config/config.h"
#include "core/device/device.h"
#include "core/device/profiling_kernels.h"
#include "core/model/model.h"
#include "data/loader.h"
#include "data/prompts.h"
#include "data/tokenizer.h"
#include "launch/teacher_parts.h"
#include "optim/trainer.h"
#include "parallel/job.h"
#include "parallel/layout.h"

namespace conclave::launch {

struct RunParts {  // freed from the last to the first
  std::unique_ptr<data::Tokenizer> tokenizer;
  core::ModelConfig model_config;          // complete, also with model.from
  std::string generation_config;           // generation_config.json of the folder of model.from; "": none
  core::Config trainer_config;             // the config as the trainer sees it: where rollouts are, with rows for them
  std::unique_ptr<data::Loader> loader;    // null where the model draws responses
  core::DataConfig problem_data;           // of prompts and problems, which refer to it
  std::optional<data::PromptSet> prompts;  // where the model draws responses
  std::vector<data::Prompt> problems;      // held out, to be solved; in all stages but pretrain
  std::string data_fingerprint;            // of rows, or of prompts
  std::unique_ptr<core::OperationProfile> operations;  // if given: where the kernels record what they did
  std::unique_ptr<core::Device> device;
  std::unique_ptr<core::Trace> trace;  // if given: where it is recorded what this rank does
  std::unique_ptr<parallel::Layout> layout;
  std::unique_ptr<TeacherParts> teacher;  // null unless its distributions are learned
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Trainer> trainer;  // null in stage reject
};

// "cpu avx2": what decides bits of bf16.
std::string InstructionSet(const core::Device& device);

// Fills in what the tokenizer or the folder of model.from decides. In `config` it completes the model unless a folder
// gives it.
absl::Status LoadTokenizerAndModelConfig(core::Config& config, RunParts& parts);

// The rows that the stage trains on. Tokenizer and model config are there.
absl::StatusOr<std::unique_ptr<data::Loader>> OpenLoader(const core::Config& config, const RunParts& parts,
                                                         const data::LoadOptions& options);

// Layout and device: with them, passes alone can be made. Collective, errors agreed on. The job outlives the parts.
absl::Status CreateLayoutAndDevice(const core::Config& config, int threads, parallel::Job& job, RunParts& parts);

// Everything else; weights are zero, in stage reject those of model.from. Rank 0 shows how far the reading of data is;
// Cancelled if a signal to any rank stops it. Collective, errors agreed on. The job outlives the parts.
absl::Status CreateParts(const core::Config& config, int threads, parallel::Job& job, RunParts& parts);

// Model and trainer anew, as the layout now places experts; weights are zero.
absl::Status RecreateModel(const core::Config& config, parallel::Job& job, RunParts& parts);

// What a model under a layout is made with. `profile`: may be null.
core::Model::Options ModelOptions(const core::Config& config, core::ParamSet::Purpose purpose,
                                  const parallel::Layout& layout, core::OperationProfile* profile);

// A model under the layout for passes alone; weights are zero. Collective, errors agreed on.
absl::StatusOr<std::unique_ptr<core::Model>> CreateInferenceModel(const core::Config& config, parallel::Job& job,
                                                                  const RunParts& parts);

// The same with the weights of step 0.
absl::StatusOr<std::unique_ptr<core::Model>> CreateFrozenModel(const core::Config& config, parallel::Job& job,
                                                               const RunParts& parts);

// Gives a model under the layout the weights of a folder. Collective, errors agreed on.
absl::Status LoadWeightsInto(const std::string& folder, parallel::Job& job, core::Model& model);

// Weights of step 0: drawn from the seed, or those of model.from. Collective, errors agreed on.
absl::Status InitializeWeights(const core::Config& config, parallel::Job& job, RunParts& parts);

}  // namespace conclave::launch
