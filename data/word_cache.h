// SPDX-License-Identifier: Apache-2.0
// What became of the words that an encoder met: most of a text is a few thousand words again and again. Direct-mapped,
// one cache line per word; a newcomer takes the place of the old one. Long words are not remembered.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace conclave::data {

class WordCache {
 public:
  WordCache() : entries_(kEntries) {}

  // Appends the ids of `word` if it is known.
  bool Find(std::string_view word, std::vector<int32_t>& ids) const {
    if (word.size() > kMaxBytes) return false;
    const Entry& entry = entries_[Slot(word)];
    if (entry.num_bytes != word.size() || std::memcmp(entry.bytes.data(), word.data(), word.size()) != 0) return false;
    ids.insert(ids.end(), entry.ids.data(), entry.ids.data() + entry.num_ids);
    return true;
  }

  void Insert(std::string_view word, std::span<const int32_t> ids) {
    if (word.empty() || word.size() > kMaxBytes || ids.size() > kMaxIds) return;
    Entry& entry = entries_[Slot(word)];
    entry.num_bytes = static_cast<uint8_t>(word.size());
    entry.num_ids = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.bytes.data(), word.data(), word.size());
    std::memcpy(entry.ids.data(), ids.data(), ids.size_bytes());
  }

 private:
  static constexpr size_t kEntries = 1 << 15;  // 2 MiB
  static constexpr size_t kMaxBytes = 30, kMaxIds = 8;

  struct alignas(64) Entry {
    std::array<int32_t, kMaxIds> ids;
    uint8_t num_bytes = 0;  // 0: unused
    uint8_t num_ids = 0;
    std::array<char, kMaxBytes> bytes;
  };
  static_assert(sizeof(Entry) == 64);

  static size_t Slot(std::string_view word) {
    uint64_t hash = word.size();
    size_t i = 0;
    for (; i + 8 <= word.size(); i += 8) hash = Mix(hash, Load(word.data() + i, 8));
    if (i < word.size()) hash = Mix(hash, Load(word.data() + i, word.size() - i));
    return hash >> 49;
  }
  static uint64_t Load(const char* bytes, size_t count) {
    uint64_t value = 0;
    std::memcpy(&value, bytes, count);
    return value;
  }
  static uint64_t Mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15;
    return hash ^ hash >> 32;
  }
  static_assert(kEntries == size_t{1} << (64 - 49));

  std::vector<Entry> entries_;
};

}  // namespace conclave::data
