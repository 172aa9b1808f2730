// SPDX-License-Identifier: Apache-2.0
// Short and long words go different ways inside; both must do what merging by hand does.
#include "data/bpe_merger.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace conclave::data {
namespace {

// Tokens a, b, and what the merges make, in this order.
BpeDescription Describe(const std::vector<std::pair<std::string, std::string>>& merges) {
  BpeDescription description{.tokens = {"a", "b"}};
  const auto id_of = [&](const std::string& token) {
    const auto found = std::find(description.tokens.begin(), description.tokens.end(), token);
    return static_cast<int32_t>(found - description.tokens.begin());
  };
  for (const auto& [left, right] : merges) {
    description.tokens.push_back(left + right);
    description.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
  return description;
}

// The definition, word for word: the best pair, the leftmost of equals, again and again.
std::vector<int32_t> MergeByHand(const BpeDescription& description, const std::string& word) {
  std::vector<int32_t> ids;
  for (const char c : word) ids.push_back(c == 'a' ? 0 : 1);
  for (;;) {
    size_t best_rank = description.merges.size(), best_at = 0;
    for (size_t at = 0; at + 1 < ids.size(); ++at) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        const BpeDescription::Merge& merge = description.merges[rank];
        if (merge.left == ids[at] && merge.right == ids[at + 1]) best_rank = rank, best_at = at;
      }
    }
    if (best_rank == description.merges.size()) return ids;
    ids[best_at] = description.merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

std::vector<int32_t> Encode(const BpeDescription& description, const std::string& word) {
  std::vector<int32_t> ids;
  BpeMerger(description).Encode(word, ids);
  return ids;
}

TEST(BpeMerger, JoinsTheLeftmostOfEqualPairs) {
  const BpeDescription description = Describe({{"a", "a"}});
  EXPECT_EQ(Encode(description, "aaa"), (std::vector<int32_t>{2, 0}));
  std::vector<int32_t> expected(50, 2);
  expected.push_back(0);
  EXPECT_EQ(Encode(description, std::string(101, 'a')), expected);
}

TEST(BpeMerger, DoesWhatMergingByHandDoes) {
  const BpeDescription description =
      Describe({{"a", "b"}, {"b", "a"}, {"ab", "ab"}, {"a", "a"}, {"aa", "ab"}, {"ba", "b"}, {"abab", "a"}});
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    std::string word(1 + random() % 120, 'a');
    for (char& c : word) c = random() % 2 == 0 ? 'a' : 'b';
    ASSERT_EQ(Encode(description, word), MergeByHand(description, word)) << word;
  }
}

}  // namespace
}  // namespace conclave::data
