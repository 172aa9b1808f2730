// SPDX-License-Identifier: Apache-2.0
// Where each tensor of a Hugging Face model folder is: which file, which entry. File names come from the index alone
// (DeepSeek-V3's own have five digits and six), and only plain names in the same folder are followed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/safetensors.h"

namespace conclave::core {

inline constexpr char kSingleWeightsFile[] = "model.safetensors";
inline constexpr char kWeightsIndexFile[] = "model.safetensors.index.json";

struct WeightIndex {
  struct Place {
    int32_t file;                   // of `files`
    const SafetensorsEntry* entry;  // owned by that file
  };
  std::vector<SafetensorsFile> files;
  std::map<std::string, Place, std::less<>> tensors;  // with *_scale_inv companions
};

// Opens all weight files of `dir` and reads their headers.
absl::StatusOr<WeightIndex> OpenWeights(const std::string& dir);

// The index of a folder: tensor name -> file name, and the sum of tensor bytes.
std::string WeightIndexJson(const std::map<std::string, std::string>& weight_map, int64_t total_bytes);

}  // namespace conclave::core
