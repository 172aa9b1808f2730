// SPDX-License-Identifier: Apache-2.0
// The reader against the grammar, its own rules beyond it, and texts that are built to take time or memory.
#include "core/base/json.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "tests/core/base/json_cases.h"
#include "tests/support/cpu_time.h"
#include "tests/support/heap_peak.h"

namespace conclave::core {
namespace {

constexpr JsonLimits kGrammar = {.checks = JsonChecks::kGrammar};
constexpr JsonLimits kTopLevel = {.checks = JsonChecks::kTopLevel};

// Accepts everything.
class Sink final : public JsonEvents {
 public:
  bool Null() override { return true; }
  bool Bool(bool) override { return true; }
  bool Negative(int64_t) override { return true; }
  bool Unsigned(uint64_t) override { return true; }
  bool Float(double, std::string_view) override { return true; }
  bool String(std::string&) override { return true; }
  bool BeginObject() override { return true; }
  bool BeginArray() override { return true; }
};

absl::Status Check(std::string_view text, const JsonLimits& limits, const JsonSource& source = {.name = "a"}) {
  Sink sink;
  return ReadJson(text, source, limits, sink);
}

std::string Error(std::string_view text, const JsonLimits& limits = {}) {
  return std::string(Check(text, limits).message());
}

// Writes the events down, each with its value.
class Recorder final : public JsonEvents {
 public:
  std::string events;

  bool Null() override { return Add("null"); }
  bool Bool(bool value) override { return Add(value ? "true" : "false"); }
  bool Negative(int64_t value) override { return Add("n" + std::to_string(value)); }
  bool Unsigned(uint64_t value) override { return Add("u" + std::to_string(value)); }
  bool Float(double value, std::string_view text) override {
    return Add("f" + std::to_string(value) + "=" + std::string(text));
  }
  bool String(std::string& text) override { return Add("'" + text + "'"); }
  bool Key(std::string& key) override { return Add(key + ":"); }
  bool BeginObject() override { return Add("{"); }
  bool EndObject() override { return Add("}"); }
  bool BeginArray() override { return Add("["); }
  bool EndArray() override { return Add("]"); }

 private:
  bool Add(const std::string& event) {
    events += event + " ";
    return true;
  }
};

TEST(Json, AcceptsWhatTheGrammarAllows) {
  const std::vector<std::string> texts = ValidJson();
  EXPECT_GE(texts.size(), 95u);
  for (const std::string& text : texts) EXPECT_EQ(Error(text, kGrammar), "") << text;
}

TEST(Json, RefusesWhatTheGrammarDoesNotAllow) {
  const std::vector<std::string> texts = InvalidJson();
  EXPECT_GE(texts.size(), 188u);
  for (const std::string& text : texts) {
    EXPECT_NE(Error(text, kGrammar), "") << text;
    EXPECT_NE(Error(text), "") << text;
  }
}

TEST(Json, RefusesEveryPrefixOfAnArray) {
  const std::string text = R"( [{"a": [1.5e+3, -2, "\u00e9\ud83d\ude00", true], "b": {"c": null, "d": false}}])";
  EXPECT_EQ(Error(text), "");
  for (size_t size = 0; size < text.size(); ++size) EXPECT_NE(Error(text.substr(0, size)), "") << size;
}

TEST(Json, SendsEveryValueAsOneEvent) {
  Recorder recorder;
  ASSERT_TRUE(ReadJson(R"({"a": [null, true, false, 0, -0, -5, 18446744073709551615, 1.50, 1e2], "b\n": "\u00e9",)"
                       R"( "": {}})",
                       {}, {}, recorder)
                  .ok());
  EXPECT_EQ(recorder.events,
            "{ a: [ null true false u0 n0 n-5 u18446744073709551615 f1.500000=1.50 f100.000000=1e2 ] b\n: '\xc3\xa9' : "
            "{ } } ");
}

TEST(Json, BuildsTheTreeThatTheTextDescribes) {
  const auto tree = ParseJson(R"({"a": [1, -2, 0.5, "x", null, true], "b": {}})", {}, {});
  ASSERT_TRUE(tree.ok());
  const nlohmann::json expected = {{"a", {1, -2, 0.5, "x", nullptr, true}}, {"b", nlohmann::json::object()}};
  EXPECT_EQ(*tree, expected);
  EXPECT_EQ(ParseJson("[1, 2", {.name = "x"}, {}).status().message(),
            "x:1:6: not valid JSON: the text ends where ',' or ']' is expected");
}

TEST(Json, SaysWhereAndWhy) {
  EXPECT_EQ(Error("{\"a\": 1,\n \"b\": ?}"), "a:2:7: not valid JSON: a value is expected, not '?}'");
  EXPECT_EQ(Error("[1,\n\n  nonsense,\n2]"), "a:3:3: not valid JSON: a value is expected, not 'nonsense,'");
  EXPECT_EQ(Error("{\"a\" 1}"), "a:1:6: not valid JSON: ':' is expected, not '1}'");
  EXPECT_EQ(Error("{a: 1}"), "a:1:2: not valid JSON: a key in double quotes is expected, not 'a: 1}'");
  EXPECT_EQ(Error("{\"a\": 1 \"b\"}"), "a:1:9: not valid JSON: ',' or '}' is expected, not '\\\"b\\\"}'");
  EXPECT_EQ(Error(""), "a:1:1: not valid JSON: the text ends where a value is expected");
  EXPECT_EQ(Error("[1]\n,"), "a:2:1: not valid JSON: nothing more is expected, not ','");
  EXPECT_EQ(Error("[\"\xc3(\"]"), "a:1:3: not valid JSON: byte 0xc3 is not UTF-8");
  EXPECT_EQ(Error("[\"a\nb\"]"), "a:1:4: not valid JSON: control character 0x0a within quotes; write \\u000a");
  EXPECT_EQ(Error("[\n\"abc"), "a:2:1: not valid JSON: the text ends within these quotes");
  EXPECT_EQ(Error("[\"a\\x\"]"), "a:1:4: not valid JSON: there is no escape '\\\\x'");
  EXPECT_EQ(Error("[\"a\\u12\"]"), "a:1:4: not valid JSON: \\u needs four hexadecimal digits");
  EXPECT_EQ(Error("[\"a\\ud800\"]"),
            "a:1:4: not valid JSON: half of a surrogate pair (\\ud800 to \\udfff) stands alone");
  EXPECT_EQ(Error("[1.x]"), "a:1:4: not valid JSON: a digit is expected, not 'x]'");
  EXPECT_EQ(Error("[ 012]"), "a:1:3: not valid JSON: a number does not begin with a zero");
  EXPECT_EQ(Error("\xef\xbb\xbf{}"), "a:1:1: a byte order mark; save the file without it");
  EXPECT_EQ(Error(std::string("[\n\0001]", 5)),
            "a:2:1: a zero byte; JSON is UTF-8, this may be UTF-16 or no text at all");
  EXPECT_EQ(Check("[1,\n?]", {}, {.name = "b", .first_line = 70}).message().substr(0, 7), "b:71:1:");
  EXPECT_EQ(Check("?", {}, {}).message().substr(0, 5), "1:1: ");
  EXPECT_EQ(Error("[1]", {.max_bytes = 2}), "a: 3 bytes; at most 2 are read");
}

TEST(Json, PutsTheReasonOfAReaderAtTheTokenThatItRefused) {
  // The place of the only value that JsonEvents refuses; Key is accepted.
  const auto place = [](std::string_view text) {
    struct Reader final : JsonEvents {
      bool BeginArray() override { return true; }
      bool BeginObject() override { return ++num_objects == 1 || Refuse("an inner object"); }
      int num_objects = 0;
    } reader;
    return std::string(ReadJson(text, {}, {}, reader).message());
  };
  EXPECT_EQ(place("[ null]"), "1:3: null is not allowed here");
  EXPECT_EQ(place("[\ntrue]"), "2:1: true and false are not allowed here");
  EXPECT_EQ(place("[ -12 ]"), "1:3: a negative number is not allowed here");
  EXPECT_EQ(place("[ 12,"), "1:3: a number is not allowed here");
  EXPECT_EQ(place("  12"), "1:3: a number is not allowed here");
  EXPECT_EQ(place("[-1.5e+3]"), "1:2: a number with fraction or exponent is not allowed here: '-1.5e+3'");
  EXPECT_EQ(place(R"(["x\"\\"])"), R"(1:2: text is not allowed here: 'x\"\\')");
  EXPECT_EQ(place(R"( "\\\"")"), R"(1:2: text is not allowed here: '\\\"')");
  EXPECT_EQ(place(R"({"a\"": "b\"\\\"c"})"), R"(1:9: text is not allowed here: 'b\"\\\"c')");
  EXPECT_EQ(place("{\"a\":\n{}}"), "2:1: an inner object");
}

TEST(Json, GivesWholeNumbersBeyond64BitsAsDoubles) {
  const std::string digits(400, '7');
  for (const std::string& number :
       {std::string("1e400"), std::string("-1e400"), digits, "-" + digits, std::string("1.5e309")}) {
    EXPECT_EQ(Error("[ " + number + "]", kGrammar).substr(0, 6), "a:1:3:") << number;
    EXPECT_NE(Error("[" + number + "]", kGrammar).find("is too large for a double"), std::string::npos) << number;
  }
  for (const char* number : {"18446744073709551616", "-9223372036854775809", "100000000000000000000"}) {
    const auto tree = ParseJson("[" + std::string(number) + "]", {}, {});
    ASSERT_TRUE(tree.ok()) << tree.status();
    EXPECT_TRUE((*tree)[0].is_number_float()) << number;  // a reader of integers refuses it
  }
  EXPECT_EQ(Error("[18446744073709551615, -9223372036854775808, 1e300, 18446744073709551616.0]"), "");
}

TEST(Json, RefusesAKeyThatStandsTwice) {
  const struct {
    const char *text, *all, *top_level;
  } cases[] = {
      {R"({"a": 1, "b": 2, "a": 3})", "a:1:18: duplicate key 'a'", "a:1:18: duplicate key 'a'"},
      {R"({"": 1, "": 3})", "a:1:9: duplicate key ''", "a:1:9: duplicate key ''"},
      {R"({"a": 1, "\u0061": 3})", "a:1:10: duplicate key 'a'", "a:1:10: duplicate key 'a'"},
      {R"({"b": 1, "a": 1, "b": 1, "a": 1, "b": 1})", "a:1:18: duplicate key 'b'", "a:1:18: duplicate key 'b'"},
      {R"({"x": {"a": 1, "a": 2}})", "a:1:16: duplicate key 'a'", ""},
      {R"([{"a": 1, "a": 2}])", "a:1:11: duplicate key 'a'", ""},
      {R"({"x": {"a": 1, "b": {"a": 1}, "a": 2}})", "a:1:31: duplicate key 'a'", ""},
      {R"({"a": {"x": {}}, "b": 1, "a": 2})", "a:1:26: duplicate key 'a'", "a:1:26: duplicate key 'a'"},
      {R"({"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 1}]})", "", ""},
      {R"({"a": 1, "A": 2, "a\u0000": 3, "a ": 4})", "", ""},
  };
  for (const auto& [text, all, top_level] : cases) {
    EXPECT_EQ(Error(text), all) << text;
    EXPECT_EQ(Error(text, kTopLevel), top_level) << text;
    EXPECT_EQ(Error(text, kGrammar), "") << text;
  }
}

TEST(Json, FindsTheOneRepeatedKeyAmongMany) {
  for (const int repeated : {0, 1, 4999, 9998}) {
    std::string text = "{";
    for (int i = 0; i < 10000; ++i) text += "\"k" + std::to_string(i == 9999 ? repeated : i) + "\": 0, ";
    text += "\"end\": 0}";
    EXPECT_NE(Error(text).find("duplicate key 'k" + std::to_string(repeated) + "'"), std::string::npos);
  }
}

TEST(Json, CountsDepth) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(Error(nested(64)), "");
  EXPECT_EQ(Error(nested(65)), "a:1:65: nested deeper than 64 levels");
  EXPECT_EQ(Error(nested(3), {.max_depth = 3}), "");
  EXPECT_EQ(Error("{\"a\": [{\"b\": []}]}", {.max_depth = 3}), "a:1:14: nested deeper than 3 levels");
  EXPECT_EQ(Error("[" + nested(63) + "," + nested(63) + ",{}]"), "");
}

std::string Repeat(std::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

std::string ManyKeys(int count, std::string_view open = "{", std::string_view close = "}") {
  std::string text(open);
  for (int i = 0; i < count; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":0";
  return text.append(close);
}

// Whatever a text of up to 16 MiB holds: an answer within 100 ms and 20 ms per MiB (of the processor: other programs
// may run), in 64 MiB. `ok` says which answer.
TEST(Json, AnswersHostileTextsInLittleTimeAndMemory) {
  const struct {
    const char* what;
    std::string text;
    bool ok;
  } cases[] = {
      {"100,000 open arrays", std::string(100'000, '['), false},
      {"10^6 open arrays", std::string(1'000'000, '['), false},
      {"10^6 open objects", Repeat("{\"a\":", 1'000'000), false},
      {"open arrays and objects", Repeat("[{\"a\":", 500'000), false},
      {"250 KB of closed nesting", Repeat("{\"a\":", 50'000) + "1" + std::string(50'000, '}'), false},
      {"10^6 closed arrays", std::string(1'000'000, '[') + std::string(1'000'000, ']'), false},
      {"10^6 arrays in a row", "[" + Repeat("[],", 1'000'000) + "1]", true},
      {"10^6 keys", ManyKeys(1'000'000), true},
      {"10^6 equal keys", "{" + Repeat("\"a\":0,", 1'000'000) + "\"a\":0}", false},
      {"10^6 empty objects with a key", "[" + Repeat("{\"a\":0},", 1'000'000) + "1]", true},
      {"keys that begin alike", "{" + Repeat("\"" + std::string(1000, 'x') + "\":0,", 8'000) + "\"y\":0}", false},
      {"a megabyte of digits", "[" + std::string(1 << 20, '1') + "]", false},
      {"a megabyte of zeros behind the point", "[0." + std::string(1 << 20, '0') + "1]", true},
      {"a megabyte of digits in an exponent", "[1e" + std::string(1 << 20, '1') + "]", false},
      {"a megabyte of a small exponent", "[1e-" + std::string(1 << 20, '1') + "]", true},
      {"8 MiB of backslashes", "\"" + std::string(8 << 20, '\\') + "\"", true},
      {"8 MiB of backslashes, then a wrong key", "{\"" + std::string(8 << 20, '\\') + "\":0,\"a\":0,\"a\":0}", false},
      {"8 MiB of escaped quotes, twice",
       "{\"" + Repeat("\\\"", 2 << 20) + "\":0,\"" + Repeat("\\\"", 2 << 20) + "\":0}", false},
      {"8 MiB of escapes", "\"" + Repeat("\\u00e9", 1'398'000) + "\"", true},
      {"8 MiB of blanks", std::string(8 << 20, ' '), false},
      {"8 MiB of line ends and an error", std::string(8 << 20, '\n') + "?", false},
      {"8 MiB of control characters", "\"" + std::string(8 << 20, '\x01') + "\"", false},
      {"8 MiB of text without an end", "\"" + std::string(8 << 20, 'x'), false},
      {"8 MiB of commas", "[" + std::string(8 << 20, ','), false},
  };
  for (const auto& [what, text, ok] : cases) {
    const testing::HeapPeak heap;
    const double limit = (0.1 + 0.02 * static_cast<double>(text.size() >> 20)) * testing::kSlowdown;
    bool accepted = false;
    const double seconds = testing::FastestCpuSeconds(limit, [&] { accepted = Check(text, {}).ok(); });
    EXPECT_EQ(accepted, ok) << what;
    EXPECT_LT(seconds, limit) << what;
    EXPECT_LT(heap.Bytes(), 64 << 20) << what;
  }
}

// The size and shape of a tokenizer.json of today.
TEST(Json, ReadsAVocabularyOf128000KeysInATenthOfASecond) {
  std::string text = ManyKeys(128'000, R"({"model": {"vocab": {)", "}, \"merges\": [");
  text += Repeat("\"abcdefgh ijklmnopqrst uvwxyz\",\n      ", 160'000) + "\"a b\"]}}";
  ASSERT_GT(text.size(), 7'000'000u);
  const double limit = 0.1 * testing::kSlowdown;
  EXPECT_LT(testing::FastestCpuSeconds(limit, [&] { EXPECT_EQ(Error(text), ""); }), limit);
}

}  // namespace
}  // namespace conclave::core
