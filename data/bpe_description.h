// SPDX-License-Identifier: Apache-2.0
// What a byte-level BPE tokenizer is, whatever file it comes from: tokens as bytes (never as GPT-2's alphabet), merges
// by rank, added tokens, and how text is cut into words before merging. Readers of tokenizer.json and tiktoken files
// and the trainer make it, BpeTokenizer runs it, WriteTokenizerJson writes it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace conclave::data {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // dropped from decoded text; a plain word under Parse::kText
  bool normalized = false;   // looked for in the normalized text, not in the text as written
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
};

// Cuts each piece of text at the matches of a regular expression (PCRE2 syntax, Unicode classes).
struct SplitRule {
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  std::string regex;
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;  // what lies between the matches counts as the match
};

enum class Normalization { kNfc, kNfd, kNfkc, kNfkd };

struct BpeDescription {
  struct Merge {
    int32_t left = -1, right = -1, result = -1;
  };
  std::vector<std::string> tokens;  // by id, as bytes; "" where an id is unused or not made of bytes
  // Vocabulary that no text gives, because GPT-2's alphabet lacks a character of it: special tokens, usually.
  std::vector<std::pair<int32_t, std::string>> plain_tokens;
  std::vector<Merge> merges;    // the first has the highest priority
  bool rank_is_result = false;  // tiktoken: the priority of a merge is its result's id, the lowest first
  bool ignore_merges = false;   // a word that is a token is that token, whatever the merges would make of it
  int32_t unknown_id = -1;      // for bytes without a token; -1: they are dropped
  std::vector<AddedToken> added_tokens;
  std::vector<Normalization> normalizations;  // in this order
  std::vector<SplitRule> splits;              // in this order
  bool add_prefix_space = false;              // a piece that does not begin with a blank gets one
};

// GPT-2's pattern, which a ByteLevel pre-tokenizer uses unless told otherwise.
inline constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace conclave::data
