// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_json_writer.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/tokenizer_json.h"

namespace conclave::data {
namespace {

const std::string kShared = CONCLAVE_SOURCE_DIR "/../shared/data/";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

// Everything that decides ids.
void ExpectSame(const BpeDescription& a, const BpeDescription& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.plain_tokens, b.plain_tokens);
  ASSERT_EQ(a.merges.size(), b.merges.size());
  for (size_t i = 0; i < a.merges.size(); ++i) {
    ASSERT_EQ(a.merges[i].left, b.merges[i].left);
    ASSERT_EQ(a.merges[i].right, b.merges[i].right);
    ASSERT_EQ(a.merges[i].result, b.merges[i].result);
  }
  ASSERT_EQ(a.added_tokens.size(), b.added_tokens.size());
  for (size_t i = 0; i < a.added_tokens.size(); ++i) {
    const AddedToken &x = a.added_tokens[i], &y = b.added_tokens[i];
    EXPECT_EQ(x.content, y.content);
    EXPECT_EQ(x.id, y.id);
    EXPECT_EQ(std::vector({x.special, x.normalized, x.lstrip, x.rstrip, x.single_word}),
              std::vector({y.special, y.normalized, y.lstrip, y.rstrip, y.single_word}));
  }
  ASSERT_EQ(a.splits.size(), b.splits.size());
  for (size_t i = 0; i < a.splits.size(); ++i) {
    EXPECT_EQ(a.splits[i].regex, b.splits[i].regex);
    EXPECT_EQ(a.splits[i].behavior, b.splits[i].behavior);
    EXPECT_EQ(a.splits[i].invert, b.splits[i].invert);
  }
  EXPECT_EQ(a.normalizations, b.normalizations);
  EXPECT_EQ(a.ignore_merges, b.ignore_merges);
  EXPECT_EQ(a.add_prefix_space, b.add_prefix_space);
  EXPECT_EQ(a.unknown_id, b.unknown_id);
}

BpeDescription WrittenAndRead(const BpeDescription& description) {
  const auto text = WriteTokenizerJson(description);
  EXPECT_TRUE(text.ok()) << text.status();
  const auto file = ParseTokenizerJson(*text, "tokenizer.json");
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? file->description : BpeDescription();
}

TEST(TokenizerJsonWriter, PublishedTokenizersReadTheSameAgain) {
  for (const std::string name : {"tokenizer_gpt2", "tokenizer_deepseek_v3"}) {
    const std::string path = kShared + name + "/tokenizer.json";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    const auto file = ParseTokenizerJson(ReadFile(path), path);
    ASSERT_TRUE(file.ok()) << file.status();
    ExpectSame(WrittenAndRead(file->description), file->description);
  }
}

TEST(TokenizerJsonWriter, KeepsEveryFieldOfADescription) {
  using Behavior = SplitRule::Behavior;
  BpeDescription description;
  for (int byte = 0; byte < 256; ++byte) description.tokens.emplace_back(1, static_cast<char>(byte));
  description.tokens.push_back("ab");
  description.tokens.push_back("");  // a hole
  description.tokens.push_back(" \n\xFF");
  description.tokens.push_back(" \n");
  description.merges = {{'a', 'b', 256}, {' ', '\n', 259}, {259, 0xFF, 258}};
  description.ignore_merges = true;
  description.unknown_id = 256;
  description.normalizations = {Normalization::kNfc, Normalization::kNfkd};
  for (const Behavior behavior : {Behavior::kRemoved, Behavior::kMergedWithPrevious, Behavior::kMergedWithNext,
                                  Behavior::kContiguous, Behavior::kIsolated}) {
    description.splits.push_back({.regex = "\\d\"+", .behavior = behavior, .invert = true});
  }
  ExpectSame(WrittenAndRead(description), description);

  description.splits = {{.regex = kGpt2Pattern}};
  description.normalizations = {Normalization::kNfd};
  description.add_prefix_space = true;
  ExpectSame(WrittenAndRead(description), description);
}

TEST(TokenizerJsonWriter, AddedTokensGetTheirIds) {
  BpeDescription description;
  for (int byte = 0; byte < 256; ++byte) description.tokens.emplace_back(1, static_cast<char>(byte));
  description.added_tokens = {{.content = "<b>", .id = 257, .rstrip = true},
                              {.content = "<a>", .id = 256, .special = true}};
  auto vocabulary = nlohmann::json::parse(*WriteTokenizerJson(description))["model"]["vocab"];
  EXPECT_EQ(vocabulary.size(), 256u);  // the library counts on from there

  description.added_tokens.push_back({.content = "<c d>", .id = 300, .normalized = true});
  vocabulary = nlohmann::json::parse(*WriteTokenizerJson(description))["model"]["vocab"];
  EXPECT_EQ(vocabulary["<a>"], 256);
  EXPECT_EQ(vocabulary["<b>"], 257);
  EXPECT_EQ(vocabulary["<c d>"], 300);
}

TEST(TokenizerJsonWriter, RefusesTokensThatAreWrittenAlike) {
  BpeDescription description;
  description.tokens = {"a", " t"};
  description.added_tokens = {{.content = "\xC4\xA0t", .id = 5}};
  for (const auto& text : {WriteTokenizerJson(description), WriteVocabJson(description)}) {
    ASSERT_FALSE(text.ok());
    EXPECT_NE(text.status().message().find("tokens 1 and 5"), std::string::npos) << text.status();
  }
  description.added_tokens[0].content = "<\xFF>";
  EXPECT_FALSE(WriteTokenizerJson(description).ok());
}

TEST(TokenizerJsonWriter, MergesOfRankedVocabulariesStandInTheOrderOfTheirResults) {
  BpeDescription description;
  description.tokens = {"a", "b", " ", "ab", " a"};
  description.merges = {{2, 0, 4}, {0, 1, 3}};
  EXPECT_EQ(WriteMergesText(description), "#version: 0.2\n\xC4\xA0 a\na b\n");
  description.rank_is_result = true;
  EXPECT_EQ(WriteMergesText(description), "#version: 0.2\na b\n\xC4\xA0 a\n");
}

TEST(TokenizerConfigJson, NamesOnlyTheTokensThatThereAre) {
  const auto config = nlohmann::json::parse(TokenizerConfigJson({.eos = "<e>"}));
  EXPECT_EQ(config, nlohmann::json::parse(R"({"eos_token": "<e>", "unk_token": null,
      "clean_up_tokenization_spaces": false, "tokenizer_class": "PreTrainedTokenizerFast"})"));
  EXPECT_EQ(nlohmann::json::parse(SpecialTokensMapJson({.bos = "<b>", .pad = "<p>"})),
            nlohmann::json::parse(R"({"bos_token": "<b>", "pad_token": "<p>"})"));
}

}  // namespace
}  // namespace conclave::data
