// SPDX-License-Identifier: Apache-2.0
#include "data/byte_tokenizer.h"

#include <array>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "core/base/rng.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

std::vector<int32_t> Encode(std::string_view text, Parse parse) {
  std::vector<int32_t> ids;
  ByteTokenizer().Encode(text, parse, ids);
  return ids;
}

// Random bytes in which names and beginnings of names are frequent.
std::string RandomText(uint64_t seed) {
  const std::array<std::string, 8> pieces = {"<bos>",    "<eos",     "<|User|>", "<think>",
                                             "</think>", "</answer", "<",        "<answer>"};
  const uint64_t key = core::RandomKey(seed, core::RandomPurpose::kTest, 0);
  std::string text;
  for (uint64_t i = 0; i < 60; ++i) {
    const auto words = core::Philox(key, i, 0);
    if (words[0] % 4 == 0) {
      text += pieces[words[1] % pieces.size()];
    } else {
      text += static_cast<char>(words[1] & 0xFF);
    }
  }
  return text;
}

TEST(ByteTokenizer, GivesTheIdsOfTransformers) {
  // ids of AutoTokenizer (transformers 5.23, tokenizers 0.23) on a folder with Files().
  const std::vector<std::pair<std::string, std::vector<int32_t>>> golden = {
      {"", {}},
      {"Hello World!", {72, 101, 108, 108, 111, 32, 87, 111, 114, 108, 100, 33}},
      {" <eos> a <pad> ", {32, 257, 32, 97, 32, 258, 32}},
      {"x<think>1+1</think><answer>2</answer><eos>y", {120, 261, 49, 43, 49, 262, 263, 50, 264, 257, 121}},
      {"<<think>>< think></think", {60, 261, 62, 60, 32, 116, 104, 105, 110, 107, 62, 60, 47, 116, 104, 105, 110, 107}},
      {"<|User|><|User |><bos><|Assistant|>", {259, 60, 124, 85, 115, 101, 114, 32, 124, 62, 256, 260}},
      {"\xE4\xBD\xA0 \xF0\x9F\x91\xA8\xE2\x80\x8D e\xCC\x81\xEF\xBB\xBF",
       {228, 189, 160, 32, 240, 159, 145, 168, 226, 128, 141, 32, 101, 204, 129, 239, 187, 191}},
      {"\xC4\xA0\xC4\x8A\n\r\n\t\x01\x7F", {196, 160, 196, 138, 10, 13, 10, 9, 1, 127}},
  };
  for (const auto& [text, ids] : golden) EXPECT_EQ(Encode(text, Parse::kSpecial), ids) << text;
}

TEST(ByteTokenizer, KeepsControlTokensOutOfPlainText) {
  EXPECT_EQ(Encode("<eos><think>", Parse::kText), (std::vector<int32_t>{60, 101, 111, 115, 62, 261}));
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const int32_t id : Encode(RandomText(seed), Parse::kText)) ASSERT_FALSE(ByteTokenizer().IsSpecial(id));
  }
}

TEST(ByteTokenizer, DecodesWhatItEncodedForAnyBytes) {
  const ByteTokenizer tokenizer;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = RandomText(seed);
    EXPECT_EQ(Decode(tokenizer, Encode(text, Parse::kText)), text);
    std::string with_names;
    for (const int32_t id : Encode(text, Parse::kSpecial)) with_names += tokenizer.TokenText(id);
    EXPECT_EQ(with_names, text);
  }
}

TEST(ByteTokenizer, AppendsAndKnowsItsIds) {
  const ByteTokenizer tokenizer;
  std::vector<int32_t> ids = {7};
  tokenizer.Encode("a", Parse::kText, ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{7, 97}));
  EXPECT_EQ(tokenizer.TokenText(257), "<eos>");
  EXPECT_EQ(tokenizer.TokenText(264), "</answer>");
  EXPECT_EQ(tokenizer.TokenText(-1), "");
  EXPECT_EQ(tokenizer.TokenText(265), "");
  int num_special = 0;
  for (int32_t id = -5; id < 300; ++id) num_special += tokenizer.IsSpecial(id);
  EXPECT_EQ(num_special, 5);
}

TEST(ByteTokenizer, WritesOneCharacterOfTheAlphabetPerByte) {
  const auto file = nlohmann::json::parse(ByteTokenizer().Files().at("tokenizer.json"));
  const auto& vocabulary = file["model"]["vocab"];
  EXPECT_EQ(vocabulary.size(), 256u);
  EXPECT_EQ(vocabulary["A"], 65);
  EXPECT_EQ(vocabulary["\xC4\xA0"], 32);   // GPT-2's space
  EXPECT_EQ(vocabulary["\xC4\x8A"], 10);   // and its line feed
  EXPECT_EQ(vocabulary["\xC5\x83"], 173);  // the last of the 68
  EXPECT_EQ(vocabulary["\xC3\xBF"], 255);
  EXPECT_EQ(file["added_tokens"].size(), 9u);
}

TEST(LoadTokenizer, ReadsItsOwnFolderAndFile) {
  const TempFolder folder;
  for (const auto& [name, contents] : ByteTokenizer().Files()) folder.Write(name, contents);
  for (const std::string& name : {std::string("bytes"), folder.Path(""), folder.Path("tokenizer.json")}) {
    const auto tokenizer = LoadTokenizer(name);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->vocab_size(), 265);
  }
}

TEST(LoadTokenizer, RecognisesTheFileAfterTransformersSavedItAnew) {
  auto file = nlohmann::json::parse(ByteTokenizer().Files().at("tokenizer.json"));
  file["post_processor"] = {{"type", "TemplateProcessing"}, {"special_tokens", nlohmann::json::object()}};
  EXPECT_TRUE(ByteTokenizer::Describes(file.dump()));
}

TEST(LoadTokenizer, RefusesWhatWouldGiveOtherIds) {
  const auto original = nlohmann::json::parse(ByteTokenizer().Files().at("tokenizer.json"));
  const std::vector<std::string> patches = {
      R"([{"op": "replace", "path": "/model/vocab/A", "value": 66}])",
      R"([{"op": "add", "path": "/model/vocab/AB", "value": 265}])",
      R"([{"op": "add", "path": "/model/merges/0", "value": ["A", "B"]}])",
      R"([{"op": "replace", "path": "/normalizer", "value": {"type": "NFC"}}])",
      R"([{"op": "replace", "path": "/pre_tokenizer/add_prefix_space", "value": true}])",
      R"([{"op": "replace", "path": "/post_processor", "value": {"type": "TemplateProcessing"}}])",
      R"([{"op": "remove", "path": "/added_tokens/8"}])",
      R"([{"op": "replace", "path": "/added_tokens/1/content", "value": "</s>"}])",
      R"([{"op": "replace", "path": "/added_tokens/5/special", "value": true}])",
      R"([{"op": "replace", "path": "/model/type", "value": "WordPiece"}])",
      R"([{"op": "replace", "path": "/model", "value": 3}])",
  };
  for (const std::string& patch : patches) {
    EXPECT_FALSE(ByteTokenizer::Describes(original.patch(nlohmann::json::parse(patch)).dump())) << patch;
  }
  for (const std::string text : {"", "[]", "null", "{", "\xFF"}) EXPECT_FALSE(ByteTokenizer::Describes(text)) << text;
}

TEST(LoadTokenizer, NamesTheFileItCannotUse) {
  const TempFolder folder;
  const std::string path = folder.Write("tokenizer.json", R"({"model": {"type": "WordLevel"}})");
  for (const std::string& name : {path, folder.Path("")}) {
    const auto tokenizer = LoadTokenizer(name);
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_NE(tokenizer.status().message().find("tokenizer.json: model \"WordLevel\" is not supported"),
              std::string::npos);
  }
  const auto missing = LoadTokenizer(folder.Path("nowhere"));
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("nowhere: No such file"), std::string::npos) << missing.status();
}

}  // namespace
}  // namespace conclave::data
