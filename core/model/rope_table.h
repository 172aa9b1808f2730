// SPDX-License-Identifier: Apache-2.0
// Cosines and sines of the rotary embedding, with the length extensions YaRN (Peng et al. 2023) and llama3. Frequencies
// and angles are rounded to f32 where Transformers rounds them, so both programs rotate by the same angles.
#pragma once

#include <vector>

#include "core/config/model_config.h"

namespace conclave::core {

// f32 [positions, dim]: cos | sin of position * frequency i, i < dim / 2.
std::vector<float> MakeRopeTable(const ModelConfig& config, int64_t dim, int64_t positions);

// 1 / sqrt(head width), times YaRN's squared mscale_all_dim correction (DeepSeek-V3).
double AttentionScale(const ModelConfig& config, int64_t query_width);

}  // namespace conclave::core
