// SPDX-License-Identifier: Apache-2.0
// What is written reads back to the same bits; comparisons name the keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/config/help.h"
#include "core/config/key_table.h"
#include "core/config/nearest.h"
#include "core/config/value_text.h"
#include "core/config/yaml.h"

namespace conclave::core {
namespace {

Config Sample() {
  Config config;
  config.data.train.resize(2);
  config.data.train[0].path = "a.txt";
  config.data.train[1].path = "dir with blanks/\xC3\xA4: \"b\" #1.jsonl";
  config.data.train[1].weight = 1.0 / 3;
  config.data.validation.resize(1);
  config.data.validation[0].path = "-";
  config.optim.lr = 0.1 + 0.2;
  config.optim.eps = std::numeric_limits<double>::min();
  config.optim.clip = 1e30;
  config.model.model_type = "qwen3_moe";
  config.model.n_routed_experts = 4;
  config.model.num_experts_per_tok = 2;
  config.model.moe_intermediate_size = 32;
  config.model.mlp_only_layers = {0, 2};
  config.model.tie_word_embeddings = true;
  config.train.seed = INT64_MAX;
  config.run.dir = "123";
  return config;
}

TEST(ConfigWriter, RoundTripsEveryValue) {
  const Config config = Sample();
  const std::string text = WriteConfig(config);
  const absl::StatusOr<Config> again = ParseConfig(text, "again.yaml", {});
  ASSERT_TRUE(again.ok()) << again.status() << "\n" << text;
  EXPECT_EQ(DifferingKeys(config, *again), std::vector<std::string>());
  EXPECT_TRUE(config.model == again->model);
  EXPECT_EQ(WriteConfig(*again), text);
  // Every key of the table stands in the text.
  for (const KeyValue& value : AllValues(config)) {
    const std::string name = value.path.substr(value.path.rfind('.') + 1);
    EXPECT_NE(text.find(name + ": " + value.text + "\n"), std::string::npos) << value.path;
  }
}

TEST(ConfigWriter, RoundTripsAnyText) {
  std::vector<std::string> texts = {"",    " ",    "a b",  "true",   "No", "null",         "~",    "1e3", "0x1F",
                                    "- a", "a: b", "a #b", "*x",     "&x", "!x",           "%x",   "@x",  "'",
                                    "\"",  "\\",   "\\n",  "a\nb\n", "\t", "\xE2\x82\xAC", "a,b]", "{a}"};
  for (int c = 1; c < 128; ++c) texts.push_back(std::string("x") + static_cast<char>(c) + "y");
  for (const std::string& text : texts) {
    Config config = Sample();
    config.data.train[0].field = "f" + text;
    config.run.dir = "./" + text;
    config.data.train[1].path = text.empty() ? "p" : text;
    const absl::StatusOr<Config> again = ParseConfig(WriteConfig(config), "again.yaml", {});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(DifferingKeys(config, *again), std::vector<std::string>());
  }
}

TEST(ConfigWriter, WritesAFolderModelAsThatAlone) {
  Config config = Sample();
  config.model = ModelConfig();
  config.model.from = "hub/model";
  const std::string text = WriteConfig(config);
  EXPECT_NE(text.find("model:\n  from: hub/model\ntasks: []\n"), std::string::npos) << text;
  EXPECT_TRUE(ParseConfig(text, "again.yaml", {}).ok());
}

TEST(ConfigWriter, DifferingKeysNameBothValues) {
  const Config a = Sample();
  Config b = a;
  b.optim.lr = 0.002;
  b.data.train.pop_back();
  b.data.validation.push_back({.path = "v.txt", .field = "text", .weight = 1, .synthetic = ""});
  b.optim.betas = {0.9, 0.99};
  const std::vector<std::string> differing = DifferingKeys(a, b);
  const auto has = [&](const std::string& line) {
    return std::find(differing.begin(), differing.end(), line) != differing.end();
  };
  EXPECT_TRUE(has("optim.lr: 0.30000000000000004 -> 0.002"));
  EXPECT_TRUE(has("optim.betas: [0.9, 0.95] -> [0.9, 0.99]"));
  EXPECT_TRUE(has("data.train.1.field: text -> (removed)"));
  EXPECT_TRUE(has("data.validation.1.path: (absent) -> v.txt"));
  EXPECT_EQ(differing.size(), 2u + 11u + 11u);
  EXPECT_EQ(DifferingKeys(a, a).size(), 0u);
}

TEST(ValueText, NumbersAreShortAndExact) {
  EXPECT_EQ(ValueText(1e-8), "1.0e-08");
  EXPECT_EQ(ValueText(2.5e-7), "2.5e-07");
  EXPECT_EQ(ValueText(0.1), "0.1");
  EXPECT_EQ(ValueText(10000.0), "10000.0");
  EXPECT_EQ(ValueText(-0.0), "-0.0");
  for (double value = 4.9e-324; std::isfinite(value); value *= 1.7321e3) {
    double again = 0;
    ASSERT_EQ(ParseValue(ValueText(value), again), nullptr) << ValueText(value);
    EXPECT_EQ(value, again);
  }
}

TEST(ValueText, ReadsNumbersStrictly) {
  double number = 0;
  for (const char* good : {"1", "-1", "+1", "1.", ".5", "1e-3", "1.0E+3", "-.5e2"}) {
    EXPECT_EQ(ParseValue(good, number), nullptr) << good;
  }
  for (const char* bad :
       {"", "-", "+", "+-1", "-+1", "--1", "1e", "1 ", " 1", "0x1", "1_000", "1,0", "inf", "-inf", "nan", "e3"}) {
    EXPECT_NE(ParseValue(bad, number), nullptr) << bad;
  }
  int64_t whole = 0;
  EXPECT_EQ(ParseValue("-9223372036854775808", whole), nullptr);
  EXPECT_EQ(whole, INT64_MIN);
  EXPECT_EQ(ParseValue("+7", whole), nullptr);
  EXPECT_EQ(whole, 7);
  for (const char* bad : {"", "-", "1.0", "1e3", "9223372036854775808", "0x10", "1_0", "007", "+-1"}) {
    EXPECT_NE(ParseValue(bad, whole), nullptr) << bad;
  }
}

TEST(Nearest, CountsEditsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("abc", "abc"), 0);
  EXPECT_EQ(EditDistance("abc", "acb"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("steps", "step"), 1);
  const std::vector<std::string> names = {"steps", "seed", "keep"};
  EXPECT_EQ(Nearest("stesp", names), "steps");
  EXPECT_EQ(Nearest("xylophone", names), "");
  EXPECT_EQ(Nearest(std::string(100000, 's'), names), "");
}

std::string Help(std::string_view path) { return HelpForKey(path).value_or(""); }
std::string Unknown(std::string_view path) { return std::string(HelpForKey(path).status().message()); }

TEST(Help, SaysTypeUnitDefaultAndMeaning) {
  EXPECT_EQ(Help("optim.lr"), "optim.lr (a number, default 0.001)\n    peak learning rate\n");
  EXPECT_EQ(Help("data.sequence_length"),
            "data.sequence_length (a whole number, tokens, default 256)\n    tokens per row\n");
  EXPECT_TRUE(Help("optim.betas").starts_with("optim.betas (a list of numbers, share, default [0.9, 0.95])\n"));
  EXPECT_EQ(Help("data.train.0.path"), Help("data.train.path"));
  EXPECT_TRUE(Help("data.train.7.weight").starts_with("data.train.N.weight (a number, share, default 1.0)\n"));
  EXPECT_NE(Help("data.train").find("data.train.N.synthetic (text"), std::string::npos);
  EXPECT_NE(Help("batch").find("batch.ramp (keys)"), std::string::npos);
  EXPECT_EQ(Help("batch").find("batch.ramp.start"), std::string::npos);
  EXPECT_NE(Help("").find("optim (keys)"), std::string::npos);
  EXPECT_EQ(Unknown("optim.lrr"), "unknown key optim.lrr; did you mean optim.lr?");
  EXPECT_EQ(Unknown("warmup_steps"), "unknown key warmup_steps; did you mean optim.schedule.warmup_steps?");
  EXPECT_EQ(Unknown("xyzzy.plugh"), "unknown key xyzzy.plugh");
}

TEST(Help, EveryKeyHasAMeaningAndStandsInTheReference) {
  const std::string page = KeyTables();
  for (const KeyInfo& key : AllKeys()) {
    EXPECT_FALSE(key.help.empty()) << key.path;
    EXPECT_NE(page.find("| `" + key.path + "` |"), std::string::npos) << key.path;
  }
}

}  // namespace
}  // namespace conclave::core
