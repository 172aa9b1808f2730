// SPDX-License-Identifier: Apache-2.0
// How often each word occurs in files: what a BPE is learned from. One thread reads, the others split and count; sums
// have no order, so the result depends on neither threads nor the order of the files.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_trainer.h"
#include "data/word_splitter.h"

namespace conclave::data {

struct WordCountOptions {
  std::string field = "text";               // of JSONL files
  std::vector<std::string> special_tokens;  // cut out; no word crosses one
  int threads = 0;                          // 0: one per processor
  // An error beyond it. Counting and training take about 45 times as much memory.
  int64_t max_distinct_bytes = int64_t{128} << 20;
};

struct CountedWords {
  std::vector<WordCount> words;  // distinct, by their bytes in rising order
  int64_t num_documents = 0;
  int64_t num_bytes = 0;  // of text
  int64_t num_words = 0;
};

// What is not UTF-8 is left out, as if the text ended before it. A long document is cut as for tokenizing (text_cut.h).
// Paths: files, folders or patterns of text and JSON lines.
absl::StatusOr<CountedWords> CountWords(std::span<const std::string> paths, const WordRules& rules,
                                        const WordCountOptions& options);

}  // namespace conclave::data
