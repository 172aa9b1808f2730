// SPDX-License-Identifier: Apache-2.0
// Between a model's parameters and Hugging Face folders.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/model_folder.h"
#include "core/model/model.h"

namespace conclave::optim {

// Reads every parameter of this rank from the folder and refreshes the model. A missing tensor is an error that names
// it; the multi-token-prediction layers may be absent as a whole with kKeepInitial (then they stay as they are).
enum class MissingMtp { kRefuse, kKeepInitial };
absl::Status LoadWeights(const core::ModelFolder& folder, MissingMtp missing_mtp, core::Model& model);

// The weights of this rank, each whole, under their Hugging Face names, as views of the masters; multi-token-prediction
// layers with their copies of embedding and head. Without data where this rank keeps rows of the master alone.
std::vector<core::StateTensor> HfWeights(const core::Model& model);
std::vector<std::string> RouterBiasNames(const core::Model& model);  // of those; they stay f32 in every folder

// Masters (router biases among them), moments and EMA as "optimizer.KIND.HF_NAME": the boxes that this rank saves, each
// element on one rank only.
std::vector<core::StateTensor> OptimizerTensors(const core::Model& model);
// The same as a restore fills them: whole masters of everything that this rank holds.
std::vector<core::StateTensor> RestoredTensors(const core::Model& model);

}  // namespace conclave::optim
