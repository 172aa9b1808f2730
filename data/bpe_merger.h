// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one word: of all adjacent pairs the one with the highest priority is joined, the leftmost of
// equals, until no pair has a merge (Sennrich et al. 2016, on bytes as in GPT-2). Time is n log n in the length of a
// long word.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "data/bpe_description.h"

namespace conclave::data {

class BpeMerger {
 public:
  // The tokens of `description` must outlive it.
  explicit BpeMerger(const BpeDescription& description);

  // Appends the ids of `word`.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Slot {
    uint64_t pair;  // left << 32 | right; kEmpty: unused
    int32_t rank, result;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  const Slot* Find(int32_t left, int32_t right) const;
  int32_t Rank(int32_t left, int32_t right) const;
  void MergeShort(std::vector<int32_t>& ids, size_t begin) const;
  void MergeLong(std::vector<int32_t>& ids, size_t begin) const;

  std::array<int32_t, 256> byte_ids_;  // -1: no token
  std::vector<Slot> slots_;            // open addressing, a power of two
  int shift_;
  absl::flat_hash_map<std::string_view, int32_t> whole_words_;  // with ignore_merges: all tokens
};

}  // namespace conclave::data
