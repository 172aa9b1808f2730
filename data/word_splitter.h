// SPDX-License-Identifier: Apache-2.0
// Text to the words that BPE merges inside of: the split rules of a tokenizer, one after the other, each on the pieces
// that the one before it left.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"

namespace conclave::data {

// Compiled rules; shared by threads.
class WordRules {
 public:
  // An error names the pattern and where it is wrong.
  static absl::StatusOr<WordRules> Compile(std::span<const SplitRule> rules);
  WordRules(WordRules&&) noexcept;
  WordRules& operator=(WordRules&&) noexcept;
  ~WordRules();

 private:
  friend class WordSplitter;
  struct State;
  explicit WordRules(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Working memory of one thread. Outlived by its rules.
class WordSplitter {
 public:
  explicit WordSplitter(const WordRules& rules);
  WordSplitter(WordSplitter&&) noexcept;
  ~WordSplitter();

  // Appends the words of `text` in order; views into it. `text` is valid UTF-8.
  void Split(std::string_view text, std::vector<std::string_view>& words);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace conclave::data
