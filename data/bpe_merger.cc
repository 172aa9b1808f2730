// SPDX-License-Identifier: Apache-2.0
// Short words, nearly all, are searched for their best pair again and again; long ones keep a heap of pairs.
#include "data/bpe_merger.h"

#include <bit>
#include <climits>
#include <queue>

namespace conclave::data {
namespace {

constexpr size_t kShortWord = 48;
constexpr int32_t kNoMerge = INT32_MAX;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BpeMerger::BpeMerger(const BpeDescription& description) {
  byte_ids_.fill(description.unknown_id);
  for (size_t id = 0; id < description.tokens.size(); ++id) {
    const std::string& token = description.tokens[id];
    if (token.size() == 1) byte_ids_[static_cast<unsigned char>(token[0])] = static_cast<int32_t>(id);
    if (description.ignore_merges && !token.empty()) whole_words_.emplace(token, static_cast<int32_t>(id));
  }
  const size_t capacity = std::bit_ceil(2 * description.merges.size() + 2);
  slots_.assign(capacity, {kEmpty, 0, 0});
  shift_ = 64 - std::countr_zero(capacity);
  for (size_t rank = 0; rank < description.merges.size(); ++rank) {
    const BpeDescription::Merge& merge = description.merges[rank];
    const uint64_t key = PairKey(merge.left, merge.right);
    size_t slot = (key * 0x9E3779B97F4A7C15) >> shift_;
    while (slots_[slot].pair != kEmpty && slots_[slot].pair != key) slot = (slot + 1) & (capacity - 1);
    // Of a pair that is listed twice the last rank counts, as in a map that is filled in order.
    slots_[slot] = {key, description.rank_is_result ? merge.result : static_cast<int32_t>(rank), merge.result};
  }
}

const BpeMerger::Slot* BpeMerger::Find(int32_t left, int32_t right) const {
  const uint64_t key = PairKey(left, right);
  for (size_t slot = (key * 0x9E3779B97F4A7C15) >> shift_;; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].pair == key) return &slots_[slot];
    if (slots_[slot].pair == kEmpty) return nullptr;
  }
}

int32_t BpeMerger::Rank(int32_t left, int32_t right) const {
  const Slot* const slot = Find(left, right);
  return slot == nullptr ? kNoMerge : slot->rank;
}

void BpeMerger::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (!whole_words_.empty()) {
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) return ids.push_back(found->second);
  }
  const size_t begin = ids.size();
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) ids.push_back(id);
  }
  if (ids.size() - begin <= kShortWord) {
    MergeShort(ids, begin);
  } else {
    MergeLong(ids, begin);
  }
}

void BpeMerger::MergeShort(std::vector<int32_t>& ids, size_t begin) const {
  std::array<int32_t, kShortWord> ranks;  // of the pair that starts at each id
  int32_t* const symbols = ids.data() + begin;
  size_t count = ids.size() - begin;
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = Rank(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoMerge) break;
    symbols[best] = Find(symbols[best], symbols[best + 1])->result;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
    }
    --count;
    if (best + 1 < count) ranks[best] = Rank(symbols[best], symbols[best + 1]);
    if (best > 0) ranks[best - 1] = Rank(symbols[best - 1], symbols[best]);
  }
  ids.resize(begin + count);
}

void BpeMerger::MergeLong(std::vector<int32_t>& ids, size_t begin) const {
  // A doubly linked list over the symbols, and a heap of candidate pairs; candidates that a merge has outdated are
  // skipped.
  struct Candidate {
    int32_t rank, left_id, right_id;
    uint32_t at;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  const auto count = static_cast<uint32_t>(ids.size() - begin);
  int32_t* const symbols = ids.data() + begin;
  std::vector<uint32_t> next(count), previous(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto propose = [&](uint32_t at) {
    const int32_t rank = Rank(symbols[at], symbols[next[at]]);
    if (rank != kNoMerge) candidates.push({rank, symbols[at], symbols[next[at]], at});
  };
  for (uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  for (uint32_t i = 0; i + 1 < count; ++i) propose(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    const uint32_t left = best.at;
    if (symbols[left] != best.left_id || next[left] == count || symbols[next[left]] != best.right_id) continue;
    const uint32_t right = next[left];
    symbols[left] = Find(best.left_id, best.right_id)->result;
    symbols[right] = -1;  // gone
    next[left] = next[right];
    if (next[left] < count) previous[next[left]] = left;
    if (next[left] < count) propose(left);
    if (left > 0) propose(previous[left]);
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i = next[i]) symbols[kept++] = symbols[i];
  ids.resize(begin + kept);
}

}  // namespace conclave::data
