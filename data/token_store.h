// SPDX-License-Identifier: Apache-2.0
// A long sequence of token ids in memory: two bytes each where the vocabulary allows it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace conclave::data {

class TokenStore {
 public:
  explicit TokenStore(int64_t vocab_size) : narrow_(vocab_size <= 65536) {}

  void Append(std::span<const int32_t> ids) {
    if (narrow_) {
      narrow_ids_.insert(narrow_ids_.end(), ids.begin(), ids.end());
    } else {
      wide_ids_.insert(wide_ids_.end(), ids.begin(), ids.end());
    }
  }

  int64_t size() const { return static_cast<int64_t>(narrow_ ? narrow_ids_.size() : wide_ids_.size()); }
  int32_t operator[](int64_t index) const { return narrow_ ? narrow_ids_[index] : wide_ids_[index]; }

 private:
  bool narrow_;
  std::vector<uint16_t> narrow_ids_;
  std::vector<int32_t> wide_ids_;
};

}  // namespace conclave::data
