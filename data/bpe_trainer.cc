// SPDX-License-Identifier: Apache-2.0
// All words stand in one array of symbols, linked to their neighbours; each pair knows where it stood. So a merge costs
// what it changes, however long a word is. A pair's places all come up, in rising order, in the merge that makes the
// newer of its two tokens; after that its count only falls. So the queue may hold an old count: a pair is put back with
// its true one when it comes to the front.
#include "data/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <queue>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/byte_alphabet.h"

namespace conclave::data {
namespace {

constexpr int32_t kNone = -1;

struct Pair {
  int32_t left = kNone, right = kNone;
  bool operator==(const Pair&) const = default;
  template <typename H>
  friend H AbslHashValue(H hash, const Pair& pair) {
    return H::combine(std::move(hash), pair.left, pair.right);
  }
};

// In the order of the code points of GPT-2's alphabet: '!' first.
std::array<uint8_t, 256> BytesInAlphabetOrder() {
  std::array<uint8_t, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), 0);
  std::sort(bytes.begin(), bytes.end(),
            [](uint8_t a, uint8_t b) { return ByteAlphabet()[a] < ByteAlphabet()[b]; });  // UTF-8 keeps that order
  return bytes;
}

class Trainer {
 public:
  Trainer(std::span<const WordCount> words, const BpeTrainerOptions& options) {
    AddFirstTokens(options);
    AddSymbols(words);
    for (const auto& [pair, state] : pairs_) queue_.push({state.count, pair, &tokens_});
  }

  // False if there is no pair left.
  bool Step() {
    const std::optional<Pair> best = PopMostFrequent();
    if (!best) return false;
    const auto result = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(tokens_[best->left] + tokens_[best->right]);
    merges_.push_back({best->left, best->right, result});
    MergeEverywhere(*best, result);
    return true;
  }

  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  std::vector<std::string> TakeTokens() { return std::move(tokens_); }
  std::vector<BpeDescription::Merge> TakeMerges() { return std::move(merges_); }

 private:
  // A byte at first, later what it was merged into. `left` and `right` are its neighbours of the same word.
  struct Symbol {
    int32_t token = kNone;  // none: merged into the one before
    int32_t left = kNone, right = kNone;
    int32_t word = 0;
  };
  struct PairState {
    int64_t count = 0;
    std::vector<int32_t> places;  // of the left symbol; some may be outdated
  };
  struct Candidate {
    int64_t count = 0;
    Pair pair;
    const std::vector<std::string>* tokens;
    bool operator<(const Candidate& other) const {
      if (count != other.count) return count < other.count;
      if (pair.left != other.pair.left) return (*tokens)[pair.left] < (*tokens)[other.pair.left];
      return pair.right != other.pair.right && (*tokens)[pair.right] < (*tokens)[other.pair.right];
    }
  };

  void AddFirstTokens(const BpeTrainerOptions& options) {
    tokens_.resize(options.special_tokens.size());
    for (const uint8_t byte : BytesInAlphabetOrder()) {
      byte_ids_[byte] = static_cast<int32_t>(tokens_.size());
      tokens_.emplace_back(1, static_cast<char>(byte));
    }
  }

  void AddSymbols(std::span<const WordCount> words) {
    size_t num_symbols = 0;
    for (const WordCount& word : words) num_symbols += word.word.size();
    symbols_.reserve(num_symbols);
    counts_.reserve(words.size());
    for (const WordCount& word : words) {
      const auto begin = static_cast<int32_t>(symbols_.size());
      const auto end = begin + static_cast<int32_t>(word.word.size());
      for (int32_t i = begin; i < end; ++i) {
        symbols_.push_back({.token = byte_ids_[static_cast<uint8_t>(word.word[i - begin])],
                            .left = i == begin ? kNone : i - 1,
                            .right = i + 1 == end ? kNone : i + 1,
                            .word = static_cast<int32_t>(counts_.size())});
        if (i > begin) Appear({symbols_[i - 1].token, symbols_[i].token}, i - 1, word.count);
      }
      counts_.push_back(word.count);
    }
  }

  void Appear(Pair pair, int32_t place, int64_t count) {
    PairState& state = pairs_[pair];
    state.count += count;
    state.places.push_back(place);
  }
  void Vanish(Pair pair, int64_t count) { pairs_[pair].count -= count; }

  std::optional<Pair> PopMostFrequent() {
    while (!queue_.empty()) {
      Candidate candidate = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(candidate.pair);
      const int64_t count = found->second.count;
      if (count == 0) {
        pairs_.erase(found);
        continue;
      }
      if (candidate.count == count) return candidate.pair;
      candidate.count = count;
      queue_.push(candidate);
    }
    return std::nullopt;
  }

  void MergeEverywhere(Pair pair, int32_t result) {
    const std::vector<int32_t> places = std::move(pairs_[pair].places);
    new_pairs_.clear();
    // Of overlapping pairs the left one is merged, as places rise.
    for (const int32_t place : places) {
      const int32_t right = symbols_[place].right;
      if (symbols_[place].token == pair.left && right != kNone && symbols_[right].token == pair.right) {
        MergeAt(place, pair, result);
      }
    }
    pairs_.erase(pair);
    for (const Pair& fresh : new_pairs_) queue_.push({pairs_[fresh].count, fresh, &tokens_});
  }

  void MergeAt(int32_t place, Pair pair, int32_t result) {
    Symbol& symbol = symbols_[place];
    Symbol& absorbed = symbols_[symbol.right];
    const int64_t count = counts_[symbol.word];
    Vanish(pair, count);
    if (symbol.left != kNone) {
      const int32_t before = symbols_[symbol.left].token;
      Vanish({before, pair.left}, count);
      Appear({before, result}, symbol.left, count);
      new_pairs_.insert({before, result});
    }
    if (absorbed.right != kNone) {
      const int32_t after = symbols_[absorbed.right].token;
      Vanish({pair.right, after}, count);
      Appear({result, after}, place, count);
      new_pairs_.insert({result, after});
      symbols_[absorbed.right].left = place;
    }
    symbol.token = result;
    symbol.right = absorbed.right;
    absorbed.token = kNone;
  }

  std::array<int32_t, 256> byte_ids_;
  std::vector<std::string> tokens_;
  std::vector<BpeDescription::Merge> merges_;
  std::vector<Symbol> symbols_;
  std::vector<int64_t> counts_;  // by word
  absl::flat_hash_map<Pair, PairState> pairs_;
  absl::flat_hash_set<Pair> new_pairs_;  // of the merge at hand
  std::priority_queue<Candidate> queue_;
};

// A tokenizer.json writes a special token as it is and the others in GPT-2's alphabet: both must differ.
absl::Status CheckSpecialToken(const std::string& token) {
  if (token.empty() || token.find('\n') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("special tokens: \"%s\" is empty or has a line feed in it", token));
  }
  const std::optional<std::string> bytes = FromByteAlphabet(token);
  if (!bytes || (bytes->size() > 1 && *bytes == token)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "special tokens: \"%s\" is also how files of tokenizers write other bytes; take a name such as <|%s|>", token,
      token));
}

absl::Status CheckWords(std::span<const WordCount> words) {
  int64_t num_bytes = 0;
  for (const WordCount& word : words) num_bytes += static_cast<int64_t>(word.word.size());
  if (num_bytes <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("the distinct words have %d bytes, at most 2^31 - 1; train on less text", num_bytes));
}

}  // namespace

absl::Status CheckBpeTrainerOptions(const BpeTrainerOptions& options) {
  absl::flat_hash_set<std::string> seen;
  for (const std::string& token : options.special_tokens) {
    RETURN_IF_ERROR(CheckSpecialToken(token));
    if (!seen.insert(token).second) {
      return absl::InvalidArgumentError(absl::StrFormat("special tokens: \"%s\" is given twice", token));
    }
  }
  const int64_t least = 256 + static_cast<int64_t>(options.special_tokens.size());
  if (options.vocab_size < least || options.vocab_size > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a vocabulary of %d: at least %d (256 bytes and %d special tokens), below 2^31",
                        options.vocab_size, least, options.special_tokens.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<BpeDescription> TrainBpe(std::span<const WordCount> words, const BpeTrainerOptions& options) {
  RETURN_IF_ERROR(CheckBpeTrainerOptions(options));
  RETURN_IF_ERROR(CheckWords(words));
  Trainer trainer(words, options);
  while (trainer.num_tokens() < options.vocab_size && trainer.Step()) {
  }
  BpeDescription description;
  description.tokens = trainer.TakeTokens();
  description.merges = trainer.TakeMerges();
  description.splits = options.splits;
  for (const std::string& token : options.special_tokens) {
    const auto id = static_cast<int32_t>(description.added_tokens.size());
    description.added_tokens.push_back({.content = token, .id = id, .special = true});
  }
  return description;
}

}  // namespace conclave::data
