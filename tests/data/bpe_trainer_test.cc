// SPDX-License-Identifier: Apache-2.0
#include "data/bpe_trainer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "core/base/rng.h"
#include "data/byte_alphabet.h"
#include "data/word_counts.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

const std::string kFixtures = CONCLAVE_SOURCE_DIR "/../shared/data/bpe_training_fixtures/";

using NamedPair = std::pair<std::string, std::string>;

std::vector<NamedPair> MergesOf(const BpeDescription& description) {
  std::vector<NamedPair> merges;
  for (const BpeDescription::Merge& merge : description.merges) {
    merges.emplace_back(description.tokens[merge.left], description.tokens[merge.right]);
  }
  return merges;
}

// The definition: count all neighbours anew before each merge.
std::vector<NamedPair> MergesByDefinition(const std::vector<WordCount>& words, size_t num_merges) {
  std::vector<std::vector<std::string>> parts;
  for (const WordCount& word : words) {
    parts.emplace_back();
    for (const char byte : word.word) parts.back().emplace_back(1, byte);
  }
  std::vector<NamedPair> merges;
  while (merges.size() < num_merges) {
    std::map<NamedPair, int64_t> counts;
    for (size_t w = 0; w < words.size(); ++w) {
      for (size_t i = 0; i + 1 < parts[w].size(); ++i) counts[{parts[w][i], parts[w][i + 1]}] += words[w].count;
    }
    const auto best = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
      return a.second != b.second ? a.second < b.second : a.first < b.first;
    });
    if (best == counts.end()) break;
    merges.push_back(best->first);
    for (std::vector<std::string>& word : parts) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best->first.first || word[i + 1] != best->first.second) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + static_cast<int64_t>(i) + 1);
      }
    }
  }
  return merges;
}

std::vector<WordCount> RandomWords(uint64_t seed) {
  const uint64_t key = core::RandomKey(seed, core::RandomPurpose::kTest, 1);
  std::map<std::string, int64_t> words;
  for (uint64_t i = 0; i < 30; ++i) {
    std::string word;
    const auto draw = core::Philox(key, i, 0);
    for (uint64_t j = 0; j <= draw[0] % 12; ++j) word += static_cast<char>('a' + core::Philox(key, i, j + 1)[0] % 3);
    words[word] = 1 + draw[1] % 3;  // few letters and small counts: many ties and overlaps
  }
  std::vector<WordCount> list;
  for (const auto& [word, count] : words) list.push_back({word, count});
  return list;
}

TEST(BpeTrainer, GivesTheReferenceVocabularyAndMerges) {
  if (!std::filesystem::exists(kFixtures)) GTEST_SKIP() << "no " << kFixtures;
  const std::vector<SplitRule> splits = {{.regex = kGpt2Pattern}};
  const auto rules = WordRules::Compile(splits);
  ASSERT_TRUE(rules.ok()) << rules.status();
  const std::vector<std::string> files = {kFixtures + "corpus.en"};
  const auto counted = CountWords(files, *rules, {.special_tokens = {"<|endoftext|>"}, .threads = 2});
  ASSERT_TRUE(counted.ok()) << counted.status();
  const auto trained =
      TrainBpe(counted->words, {.vocab_size = 500, .special_tokens = {"<|endoftext|>"}, .splits = splits});
  ASSERT_TRUE(trained.ok()) << trained.status();

  std::ifstream merges_file(kFixtures + "train-bpe-reference-merges.txt");
  std::string expected, merges;
  for (std::string line; std::getline(merges_file, line);) expected += line + "\n";
  for (const auto& [left, right] : MergesOf(*trained)) {
    merges += ToByteAlphabet(left) + " " + ToByteAlphabet(right) + "\n";
  }
  EXPECT_EQ(merges, expected);

  std::ifstream vocabulary_file(kFixtures + "train-bpe-reference-vocab.json");
  const auto vocabulary = nlohmann::json::parse(vocabulary_file);
  ASSERT_EQ(vocabulary.size(), trained->tokens.size());
  EXPECT_EQ(vocabulary[trained->added_tokens.at(0).content], 0);
  for (size_t id = 1; id < trained->tokens.size(); ++id) {
    EXPECT_EQ(vocabulary.value(ToByteAlphabet(trained->tokens[id]), -1), static_cast<int>(id));
  }
}

TEST(BpeTrainer, MergesWhatCountingAnewWouldMergeUntilNothingIsLeft) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<WordCount> words = RandomWords(seed);
    const auto trained = TrainBpe(words, {.vocab_size = 1000});
    ASSERT_TRUE(trained.ok()) << trained.status();
    ASSERT_EQ(MergesOf(*trained), MergesByDefinition(words, 1000)) << "seed " << seed;
    ASSERT_LT(trained->tokens.size(), 1000u);
  }
}

TEST(BpeTrainer, DoesNotDependOnTheOrderOfWords) {
  std::vector<WordCount> words = RandomWords(7);
  const auto trained = TrainBpe(words, {.vocab_size = 300});
  std::reverse(words.begin(), words.end());
  const auto reversed = TrainBpe(words, {.vocab_size = 300});
  ASSERT_TRUE(trained.ok() && reversed.ok());
  EXPECT_EQ(trained->tokens, reversed->tokens);
  EXPECT_EQ(MergesOf(*trained), MergesOf(*reversed));
}

TEST(BpeTrainer, MakesOneTokenPerMergeAndNoneTwice) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto trained = TrainBpe(RandomWords(seed), {.vocab_size = 1000});
    ASSERT_TRUE(trained.ok());
    for (size_t i = 0; i < trained->merges.size(); ++i) {
      const BpeDescription::Merge& merge = trained->merges[i];
      EXPECT_EQ(merge.result, static_cast<int32_t>(256 + i));
      EXPECT_EQ(trained->tokens[merge.result], trained->tokens[merge.left] + trained->tokens[merge.right]);
    }
    std::vector<std::string> tokens = trained->tokens;
    std::sort(tokens.begin(), tokens.end());
    EXPECT_EQ(std::adjacent_find(tokens.begin(), tokens.end()), tokens.end());
  }
}

TEST(BpeTrainer, OneWordOfAMillionLettersIsNotQuadratic) {
  std::string word;
  const uint64_t key = core::RandomKey(3, core::RandomPurpose::kTest, 2);
  for (uint64_t i = 0; i < 1'000'000; ++i) word += static_cast<char>('a' + core::Philox(key, i, 0)[0] % 20);
  const auto trained =
      TrainBpe(std::vector<WordCount>{{word, 1}, {std::string(1'000'000, 'z'), 1}}, {.vocab_size = 1500});
  ASSERT_TRUE(trained.ok());
  EXPECT_EQ(trained->tokens.size(), 1500u);
}

TEST(BpeTrainer, RefusesOptionsThatCannotWorkByName) {
  const auto message = [](const BpeTrainerOptions& options) {
    return std::string(TrainBpe({}, options).status().message());
  };
  EXPECT_NE(message({.vocab_size = 256, .special_tokens = {"<s>"}}).find("at least 257"), std::string::npos);
  EXPECT_NE(message({.vocab_size = int64_t{1} << 31}).find("below 2^31"), std::string::npos);
  EXPECT_NE(message({.vocab_size = 300, .special_tokens = {"<s>", "<s>"}}).find("given twice"), std::string::npos);
  for (const std::string token : {"", "a", "\xC4\xA0t", "\xC3\xA9", "<\n>"}) {
    EXPECT_NE(message({.vocab_size = 300, .special_tokens = {token}}).find("special tokens: \"" + token + "\""),
              std::string::npos);
  }
  EXPECT_EQ(message({.vocab_size = 258, .special_tokens = {"<s>", "<\xEF\xBD\x9Cx y\xEF\xBD\x9C>"}}), "");
}

}  // namespace
}  // namespace conclave::data
