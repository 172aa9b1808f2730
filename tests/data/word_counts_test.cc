// SPDX-License-Identifier: Apache-2.0
#include "data/word_counts.h"

#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "core/base/rng.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

using Counts = std::map<std::string, int64_t>;

WordRules Gpt2Rules() {
  const std::vector<SplitRule> splits = {{.regex = kGpt2Pattern}};
  return WordRules::Compile(splits).value();
}

Counts CountsOf(const CountedWords& counted) {
  Counts counts;
  for (const WordCount& word : counted.words) counts[word.word] += word.count;
  EXPECT_EQ(counts.size(), counted.words.size());
  return counts;
}

Counts Count(const std::vector<std::string>& files, const WordCountOptions& options) {
  const auto counted = CountWords(files, Gpt2Rules(), options);
  EXPECT_TRUE(counted.ok()) << counted.status();
  return counted.ok() ? CountsOf(*counted) : Counts();
}

std::string RandomLines(uint64_t seed, int num_lines) {
  const uint64_t key = core::RandomKey(seed, core::RandomPurpose::kTest, 3);
  std::string text;
  for (int line = 0; line < num_lines; ++line) {
    for (uint64_t word = 0; word < 8; ++word) {
      text += std::to_string(core::Philox(key, static_cast<uint64_t>(line), word)[0] % 5000) + (word % 3 ? " a" : ", ");
    }
    text += line % 5 ? "end.\n" : " \n\n";
  }
  return text;
}

TEST(WordCounts, AreThoseOfEveryDocumentWithSpecialTokensCutOut) {
  const TempFolder folder;
  const std::string text = folder.Write("a.txt", "to be<|e|> to<|e|><|end|>be to");
  const std::string lines = folder.Write("b.jsonl", "{\"body\": \"to\"}\n{\"body\": \" to be\"}\n");
  const auto counted =
      CountWords(std::vector{text, lines}, Gpt2Rules(), {.field = "body", .special_tokens = {"<|e|>", "<|end|>"}});
  ASSERT_TRUE(counted.ok()) << counted.status();
  EXPECT_EQ(CountsOf(*counted), (Counts{{"to", 2}, {" be", 2}, {" to", 3}, {"be", 1}}));
  EXPECT_EQ(counted->num_words, 8);
  EXPECT_EQ(counted->num_documents, 3);
  EXPECT_EQ(counted->num_bytes, 30 + 2 + 6);
}

TEST(WordCounts, DoNotDependOnThreadsOrTheOrderOfFiles) {
  const TempFolder folder;
  std::string lines;
  for (uint64_t i = 0; i < 300; ++i) lines += nlohmann::json{{"text", RandomLines(i, 60)}}.dump() + "\n";
  const std::string a = folder.Write("a.txt", RandomLines(1000, 60000));
  const std::string b = folder.Write("b.jsonl", lines);
  const std::string c = folder.Write("c.txt.gz", Gzip(RandomLines(2000, 100)));
  const auto expected = CountWords(std::vector{a, b, c}, Gpt2Rules(), {.threads = 1});
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_GT(expected->words.size(), 1000u);
  const auto counted = CountWords(std::vector{c, b, a}, Gpt2Rules(), {.threads = 5});
  ASSERT_TRUE(counted.ok()) << counted.status();
  EXPECT_EQ(CountsOf(*counted), CountsOf(*expected));
  EXPECT_EQ(counted->num_words, expected->num_words);
  for (size_t i = 0; i < counted->words.size(); ++i) ASSERT_EQ(counted->words[i].word, expected->words[i].word);
}

TEST(WordCounts, OfALongDocumentAreThoseOfTheWholeText) {
  const TempFolder folder;
  const std::string text = RandomLines(5, 60000);
  ASSERT_GT(text.size(), size_t{2} << 20);
  Counts expected;
  std::vector<std::string_view> words;
  const WordRules rules = Gpt2Rules();
  WordSplitter(rules).Split(text, words);
  for (const std::string_view word : words) ++expected[std::string(word)];
  EXPECT_EQ(Count({folder.Write("a.txt", text)}, {.threads = 2}), expected);
}

TEST(WordCounts, LeaveOutWhatIsNotUtf8) {
  const TempFolder folder;
  EXPECT_EQ(Count({folder.Write("a.txt", "ab\xFF\xC3(cd \xF0\x9F\x98")}, {}),
            (Counts{{"ab", 1}, {"(", 1}, {"cd", 1}, {" ", 1}}));
}

TEST(WordCounts, BeyondTheirBoundAreAnError) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", RandomLines(6, 2000));
  for (const int threads : {1, 3}) {
    const auto counted = CountWords(std::vector{path}, Gpt2Rules(), {.threads = threads, .max_distinct_bytes = 1000});
    EXPECT_EQ(counted.status().code(), absl::StatusCode::kResourceExhausted);
  }
}

TEST(WordCounts, NameTheFileThatCannotBeRead) {
  const TempFolder folder;
  const std::string good = folder.Write("a.txt", "a b"),
                    bad = folder.Write("b.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
  for (const std::string& path : {folder.Path("absent.txt"), bad}) {
    const auto counted = CountWords(std::vector{good, path}, Gpt2Rules(), {});
    ASSERT_FALSE(counted.ok());
    EXPECT_NE(counted.status().message().find(path), std::string::npos) << counted.status();
  }
}

}  // namespace
}  // namespace conclave::data
