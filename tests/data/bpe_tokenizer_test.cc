// SPDX-License-Identifier: Apache-2.0
// Ids and texts against those of the tokenizers library: small tokenizers of every kind in tests/golden, the real ones
// of GPT-2 and DeepSeek-V3 where the shared data is there; and the laws that need no other program.
#include "data/bpe_tokenizer.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/text_cut.h"
#include "tests/data/tokenizer_cases.h"

namespace conclave::data {
namespace {

const std::string kGolden = CONCLAVE_SOURCE_DIR "/tests/golden/tokenizers/";
const std::string kShared = CONCLAVE_SOURCE_DIR "/../shared/data/";
constexpr const char* kKinds[] = {"gpt2_prefix", "llama3", "nfc_strip", "behaviors", "removed_digits"};

std::unique_ptr<Tokenizer> Load(const std::string& name) {
  auto tokenizer = LoadTokenizer(name);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

void ExpectCases(const std::string& tokenizer_path, const std::string& cases_path, size_t least_cases) {
  const auto tokenizer = Load(tokenizer_path);
  const std::vector<TokenizerCase> cases = ReadTokenizerCases(cases_path);
  ASSERT_GE(cases.size(), least_cases);
  const std::unique_ptr<Encoder> encoder = tokenizer->NewEncoder();
  for (const TokenizerCase& c : cases) {
    std::vector<int32_t> ids;
    encoder->Encode(c.input, Parse::kSpecial, ids);
    ASSERT_EQ(ids, c.ids) << c.input;
    ASSERT_EQ(DecodeAll(*tokenizer, ids), c.decoded) << c.input;
  }
}

class GoldenTokenizers : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTokenizers, GiveTheIdsAndTextsOfTheTokenizersLibrary) {
  ExpectCases(kGolden + GetParam(), kGolden + GetParam() + "/cases.jsonl", 80);
}

TEST_P(GoldenTokenizers, EncodeTheSameWhateverWasEncodedBefore) {
  const auto tokenizer = Load(kGolden + GetParam());
  const auto worn = tokenizer->NewEncoder();
  for (int round = 0; round < 2; ++round) {
    for (const TokenizerCase& c : ReadTokenizerCases(kGolden + GetParam() + "/cases.jsonl")) {
      std::vector<int32_t> ids;
      worn->Encode(c.input, Parse::kText, ids);
      ASSERT_EQ(ids, EncodeAll(*tokenizer, c.input, Parse::kText));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizers, ::testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param); });

struct SharedCases {
  const char *tokenizer, *cases;
  size_t least_cases;
};
class SharedTokenizers : public ::testing::TestWithParam<SharedCases> {};

TEST_P(SharedTokenizers, GiveThePublishedIds) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "no shared data";
  ExpectCases(kShared + GetParam().tokenizer, kShared + GetParam().cases, GetParam().least_cases);
}

INSTANTIATE_TEST_SUITE_P(
    Files, SharedTokenizers,
    ::testing::Values(SharedCases{"tokenizer_gpt2", "tokenizer_gpt2/awkward_cases.jsonl", 400},
                      SharedCases{"tokenizer_deepseek_v3", "tokenizer_deepseek_v3/awkward_cases.jsonl", 400},
                      SharedCases{"tokenizer_deepseek_v3", "tokenizer_deepseek_v3/cases.jsonl", 18},
                      SharedCases{"tokenizer_deepseek_v3/deepseek_v3.tiktoken",
                                  "tokenizer_deepseek_v3/awkward_cases.jsonl", 400}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

// Inputs with a line of their own between them, and a line of ids for each.
TEST(SharedGpt2Tokenizer, GiveTheIdsOfAnotherProgramForGpt2) {
  std::ifstream inputs(kShared + "tokenizer_gpt2/cases.inp", std::ios::binary),
      outputs(kShared + "tokenizer_gpt2/cases.out");
  if (!inputs) GTEST_SKIP() << "no shared data";
  constexpr std::string_view kBorder = "\n__ggml_vocab_test__\n";
  const std::string all{std::istreambuf_iterator<char>(inputs), std::istreambuf_iterator<char>()};
  const auto tokenizer = Load(kShared + "tokenizer_gpt2");
  int num_cases = 0;
  for (size_t begin = 0, end = 0; end != std::string::npos; begin = end + kBorder.size(), ++num_cases) {
    end = all.find(kBorder, begin);
    const std::string input = all.substr(begin, end - begin);
    std::string line;
    std::getline(outputs, line);
    std::istringstream numbers(line);
    const std::vector<int32_t> expected{std::istream_iterator<int32_t>(numbers), std::istream_iterator<int32_t>()};
    EXPECT_EQ(EncodeAll(*tokenizer, input, Parse::kSpecial), expected) << input;
    EXPECT_EQ(DecodeAll(*tokenizer, expected), input);
  }
  EXPECT_GE(num_cases, 46);
}

TEST(BpeTokenizer, GivesBackEveryTextByteForByte) {
  const auto tokenizer = Load(kGolden + "llama3");
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string bytes(random() % 60, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    ASSERT_EQ(Decode(*tokenizer, EncodeAll(*tokenizer, bytes, Parse::kText)), bytes);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    EXPECT_EQ(EncodeAll(*tokenizer, text, Parse::kText).size(), 1u);
    EXPECT_EQ(Decode(*tokenizer, EncodeAll(*tokenizer, text, Parse::kText)), text);
  }
}

TEST(BpeTokenizer, RecognisesNamesOfSpecialTokensOnlyWhenAsked) {
  const auto tokenizer = Load(kGolden + "gpt2_prefix");
  const auto plain = EncodeAll(*tokenizer, " a<|end|><think>", Parse::kText);
  const auto special = EncodeAll(*tokenizer, " a<|end|><think>", Parse::kSpecial);
  EXPECT_LT(special.size(), plain.size());
  EXPECT_EQ(tokenizer->TokenText(plain.back()), "<think>");  // not special: always one token
  EXPECT_TRUE(tokenizer->IsSpecial(special[special.size() - 2]));
  EXPECT_EQ(tokenizer->TokenText(special[special.size() - 2]), "<|end|>");
  for (const int32_t id : plain) EXPECT_FALSE(tokenizer->IsSpecial(id));
}

TEST(BpeTokenizer, TakesLinearTimeForOneLongWord) {
  const auto tokenizer = Load(kGolden + "llama3");
  const auto start = std::chrono::steady_clock::now();
  for (const char* letter : {"a", " ", "\n", "1", "."}) {
    std::string text;
    while (text.size() < 1'000'000) text += letter;
    const auto ids = EncodeAll(*tokenizer, text, Parse::kText);
    ASSERT_EQ(Decode(*tokenizer, ids), text);
  }
  // Quadratic time would be minutes; sanitizers take ten times what we do.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(BpeTokenizer, EncodesALongTextInPiecesAsInOne) {
  std::string text;
  for (int line = 0; text.size() < (size_t{5} << 19); ++line) {
    text += "Line " + std::to_string(line) + " of many, don't count\n";
  }
  const size_t cut = FirstPiece(text, Rest::kNone);
  ASSERT_LT(cut, text.size());
  for (const char* kind : {"gpt2_prefix", "llama3", "nfc_strip"}) {
    const auto tokenizer = Load(kGolden + kind);
    const auto encoder = tokenizer->NewEncoder();
    std::vector<int32_t> pieces;
    encoder->Encode(text.substr(0, cut), Parse::kText, pieces);
    encoder->EncodeRest(text.substr(cut), Parse::kText, pieces);
    EXPECT_TRUE(pieces == EncodeAll(*tokenizer, text, Parse::kText)) << kind;
  }
}

TEST(BpeTokenizer, PutsABlankBeforeATextAndBehindAddedTokensOnly) {
  const auto tokenizer = Load(kGolden + "gpt2_prefix");
  const auto encoder = tokenizer->NewEncoder();
  EXPECT_EQ(Decode(*tokenizer, EncodeAll(*tokenizer,
                                         "a\xFF"
                                         "b",
                                         Parse::kText)),
            " a\xFF"
            "b");
  for (const std::string rest : {"b", "<think>b",
                                 "\xFF"
                                 "b",
                                 "b<think>c"}) {
    std::vector<int32_t> pieces;
    encoder->Encode("a", Parse::kText, pieces);
    encoder->EncodeRest(rest, Parse::kText, pieces);
    EXPECT_EQ(Decode(*tokenizer, pieces), Decode(*tokenizer, EncodeAll(*tokenizer, "a" + rest, Parse::kText))) << rest;
  }
}

TEST(BpeTokenizer, FingerprintsTellTokenizersApart) {
  std::vector<std::string> fingerprints;
  for (const char* kind : kKinds) fingerprints.push_back(Load(kGolden + kind)->Fingerprint());
  fingerprints.push_back(Load("bytes")->Fingerprint());
  for (size_t i = 0; i < fingerprints.size(); ++i) {
    EXPECT_EQ(fingerprints[i].size(), 32u);
    for (size_t j = 0; j < i; ++j) EXPECT_NE(fingerprints[i], fingerprints[j]);
  }
  EXPECT_EQ(Load(kGolden + "llama3")->Fingerprint(), Load(kGolden + "llama3/tokenizer.json")->Fingerprint());
}

}  // namespace
}  // namespace conclave::data
