// SPDX-License-Identifier: Apache-2.0
// A small tokenizer.json, and what happens when one thing in it is wrong.
#include "data/tokenizer_json.h"

#include <string>

#include "gtest/gtest.h"

#include "data/byte_alphabet.h"
#include "data/pattern_syntax.h"
#include "data/tokenizer.h"
#include "tests/data/temp_folder.h"
#include "tests/data/tokenizer_cases.h"

namespace conclave::data {
namespace {

struct Parts {
  std::string model = R"("type": "BPE", )";
  std::string vocab = R"("a": 0, "b": 1, "ab": 2, "abb": 3, "\u0120": 4)";
  std::string merges = R"(["a", "b"], ["ab", "b"])";
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": false})";
  std::string added = R"({"id": 5, "content": "<e>", "special": true})";
  std::string post_processor = "null";

  std::string Text() const {
    return R"({"version": "1.0", "added_tokens": [)" + added + R"(], "normalizer": )" + normalizer +
           R"(, "pre_tokenizer": )" + pre_tokenizer + R"(, "post_processor": )" + post_processor +
           R"(, "decoder": {"type": "ByteLevel"}, "model": {)" + model + R"("vocab": {)" + vocab + R"(}, "merges": [)" +
           merges + "]}}";
  }
};

TEST(TokenizerJson, ReadsBothFormsOfMerges) {
  Parts old_form;
  old_form.merges = R"("a b", "ab b")";
  for (const std::string& text : {Parts().Text(), old_form.Text()}) {
    const auto file = ParseTokenizerJson(text, "t");
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_EQ(file->description.merges.size(), 2u);
    EXPECT_EQ(file->description.merges[1].left, 2);
    EXPECT_EQ(file->description.merges[1].result, 3);
    EXPECT_EQ(file->description.tokens[4], " ");
  }
}

TEST(TokenizerJson, DropsBytesWithoutATokenAsTheLibraryDoes) {
  const TempFolder folder;
  folder.Write("tokenizer.json", Parts().Text());
  const auto tokenizer = LoadTokenizer(folder.Path(""));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(EncodeAll(**tokenizer, "abbxab<e> a", Parse::kSpecial), (std::vector<int32_t>{3, 2, 5, 4, 0}));
}

struct Broken {
  const char* what;
  std::string Parts::*part;
  const char* text;
  const char* complaint;
};

TEST(TokenizerJson, RefusesWhatItCannotDoAndSaysWhy) {
  const Broken table[] = {
      {"wordpiece", &Parts::model, R"("type": "WordPiece", )", "model \"WordPiece\" is not supported"},
      {"byte fallback", &Parts::model, R"("byte_fallback": true, )", "byte_fallback"},
      {"dropout", &Parts::model, R"("dropout": 0.1, )", "dropout"},
      {"suffix", &Parts::model, R"("end_of_word_suffix": "</w>", )", "end_of_word_suffix"},
      {"model key twice", &Parts::model, R"("type": "BPE", "type": "BPE", )", "type"},
      {"no vocabulary", &Parts::vocab, "", "vocab is missing or empty"},
      {"text twice", &Parts::vocab, R"("a": 0, "b": 1, "a": 2)", "a"},
      {"id twice", &Parts::vocab, R"("a": 0, "b": 0)", "id 0 is given to two texts"},
      {"id too large", &Parts::vocab, R"("a": 0, "b": 99999999999)", "id 99999999999"},
      {"negative id", &Parts::vocab, R"("a": -1)", "\"a\" has no id that is a number"},
      {"id is text", &Parts::vocab, R"("a": "1")", "\"a\" has no id that is a number"},
      {"object in vocabulary", &Parts::vocab, R"("a": {})", "\"a\" has no id that is a number"},
      {"merge of unknown", &Parts::merges, R"(["a", "c"])", "merge 0 needs \"c\""},
      {"merge to unknown", &Parts::merges, R"(["b", "a"])", "merge 0 needs \"ba\""},
      {"merge of three", &Parts::merges, R"(["a", "b", "b"])", "more than two halves"},
      {"merge of one", &Parts::merges, R"(["a"])", "not a pair"},
      {"merge of two blanks", &Parts::merges, R"("a b b")", "not two halves"},
      {"merge is a number", &Parts::merges, "1", "neither a text nor a pair"},
      {"normalizer", &Parts::normalizer, R"({"type": "Lowercase"})", "normalizer \"Lowercase\" is not supported"},
      {"no byte level", &Parts::pre_tokenizer, "null", "not byte-level BPE"},
      {"metaspace", &Parts::pre_tokenizer, R"({"type": "Metaspace"})", "\"Metaspace\" is not supported"},
      {"bad regex", &Parts::pre_tokenizer,
       R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"},
           {"type": "ByteLevel", "add_prefix_space": false}]})",
       "the pattern (a is not valid"},
      {"class intersection", &Parts::pre_tokenizer,
       R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"},
           {"type": "ByteLevel", "add_prefix_space": false}]})",
       "intersects classes"},
      {"behavior", &Parts::pre_tokenizer, R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd"})",
       "behavior \"Odd\" is not known"},
      {"added token without id", &Parts::added, R"({"content": "x"})", "added_tokens: entry 0"},
      {"added token without content", &Parts::added, R"({"id": 7})", "added_tokens: entry 0"},
  };
  for (const Broken& broken : table) {
    Parts parts;
    parts.*broken.part = broken.text;
    const TempFolder folder;
    const std::string path = folder.Write("tokenizer.json", parts.Text());
    const auto tokenizer = LoadTokenizer(path);
    ASSERT_FALSE(tokenizer.ok()) << broken.what;
    const std::string message(tokenizer.status().message());
    EXPECT_EQ(message.find(path), 0u) << message;
    EXPECT_NE(message.find(broken.complaint), std::string::npos) << broken.what << ": " << message;
  }
}

TEST(TokenizerJson, RefusesEveryTruncation) {
  const std::string text = Parts().Text();
  for (size_t length = 0; length < text.size(); ++length) {
    EXPECT_FALSE(ParseTokenizerJson(text.substr(0, length), "t").ok()) << length;
  }
}

TEST(TokenizerJson, RefusesDeepNestingAndZeroBytes) {
  EXPECT_FALSE(ParseTokenizerJson(std::string(1'000'000, '['), "t").ok());
  EXPECT_FALSE(ParseTokenizerJson(Parts().Text() + std::string(1, '\0'), "t").ok());
}

TEST(Companions, SayWhatBeginsAndEndsAText) {
  Parts parts;
  parts.added = R"({"id": 5, "content": "<s>", "special": true}, {"id": 6, "content": "</s>", "special": true},
                   {"id": 7, "content": "<x>", "special": true})";
  const TempFolder folder;
  folder.Write("tokenizer.json", parts.Text());
  auto tokenizer = LoadTokenizer(folder.Path(""));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 5);  // usual names
  EXPECT_EQ((*tokenizer)->eos_id(), 6);

  folder.Write("tokenizer_config.json",
               R"({"bos_token": null, "eos_token": {"content": "<x>"}, "pad_token": "</s>", "tokenizer_class": "Odd",
                   "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}],
                   "added_tokens_decoder": {"9": {"content": "<new>", "special": true}}})");
  tokenizer = LoadTokenizer(folder.Path(""));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), -1);
  EXPECT_EQ((*tokenizer)->eos_id(), 7);
  EXPECT_EQ((*tokenizer)->pad_id(), 6);
  EXPECT_EQ((*tokenizer)->vocab_size(), 10);
  EXPECT_EQ((*tokenizer)->ChatTemplateText(), "yes");
  EXPECT_EQ(EncodeAll(**tokenizer, "<new>", Parse::kSpecial), std::vector<int32_t>{9});
  const auto files = (*tokenizer)->Files();
  EXPECT_EQ(files.at("tokenizer.json"), parts.Text());
  EXPECT_NE(files.at("tokenizer_config.json").find("\"tokenizer_class\": \"PreTrainedTokenizerFast\""),
            std::string::npos);

  folder.Write("chat_template.jinja", "newer");
  tokenizer = LoadTokenizer(folder.Path(""));
  EXPECT_EQ((*tokenizer)->ChatTemplateText(), "newer");
  folder.Write("tokenizer_config.json", "[1");
  EXPECT_FALSE(LoadTokenizer(folder.Path("")).ok());
}

TEST(ByteAlphabet, IsABijection) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    EXPECT_EQ(FromByteAlphabet(ToByteAlphabet(text)), text);
  }
  EXPECT_EQ(ToByteAlphabet(" \n"), "\u0120\u010A");
  EXPECT_EQ(FromByteAlphabet("a b"), std::nullopt);
  EXPECT_EQ(FromByteAlphabet("\xC4"), std::nullopt);
  EXPECT_EQ(FromByteAlphabet("\u4e00"), std::nullopt);
}

TEST(PatternSyntax, SpellsOutClassesThatDiffer) {
  EXPECT_EQ(*ToPcre2(R"([]\]a]+\p{L}(?!x))"), R"([]\]a]+\p{L}(?!x))");
  EXPECT_EQ(ToPcre2(R"(\s)")->front(), '[');
  EXPECT_EQ(ToPcre2(R"(\S)")->substr(0, 2), "[^");
  EXPECT_EQ(ToPcre2(R"([^\sx])")->find(R"(\s)"), std::string::npos);
  EXPECT_EQ(*ToPcre2(R"(\\s)"), R"(\\s)");  // an escaped backslash, then an s
  EXPECT_EQ(LiteralPattern("a.b"), R"(a\.b)");
}

}  // namespace
}  // namespace conclave::data
