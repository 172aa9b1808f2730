// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE from words with their counts. Again and again the most frequent pair of neighbours becomes
// one token; of equally frequent pairs the one whose bytes are greater, the left part compared first. The result is a
// function of the set of words alone, not of their order.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"

namespace conclave::data {

struct WordCount {
  std::string word;  // bytes
  int64_t count = 0;
};

struct BpeTrainerOptions {
  int64_t vocab_size = 0;                   // special tokens and the 256 bytes included
  std::vector<std::string> special_tokens;  // the first ids, in this order
  std::vector<SplitRule> splits;            // how the words were made; part of the result
};

// An error says which option is wrong. To be asked before words are counted, which takes long.
absl::Status CheckBpeTrainerOptions(const BpeTrainerOptions& options);

// Ids: special tokens, bytes in the order of GPT-2's alphabet, then one token per merge. Fewer than `vocab_size` when
// every word has become one token.
absl::StatusOr<BpeDescription> TrainBpe(std::span<const WordCount> words, const BpeTrainerOptions& options);

}  // namespace conclave::data
