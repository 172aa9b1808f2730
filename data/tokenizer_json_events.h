// SPDX-License-Identifier: Apache-2.0
// One pass over a tokenizer.json: the two large members, model.vocab and model.merges, become flat lists, everything
// else, which is small, a tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace conclave::data {

class TokenizerJsonEvents {
 public:
  absl::Status Read(std::string_view text);

  const std::vector<std::pair<std::string, uint64_t>>& vocabulary() const { return vocabulary_; }
  const std::vector<std::pair<std::string, std::string>>& merges() const { return merges_; }  // halves
  const nlohmann::json& rest() const { return rest_; }

 private:
  class Handler;

  std::vector<std::pair<std::string, uint64_t>> vocabulary_;
  std::vector<std::pair<std::string, std::string>> merges_;
  nlohmann::json rest_;
};

}  // namespace conclave::data
