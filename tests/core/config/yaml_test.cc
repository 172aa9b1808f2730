// SPDX-License-Identifier: Apache-2.0
// The strict reader against wrong files and overrides: each error says where, what, and what to do. Hostile texts must
// end in an error, soon.
#include "core/config/yaml.h"

#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/config/yaml_node.h"
#include "tests/support/cpu_time.h"
#include "tests/support/heap_peak.h"

namespace conclave::core {
namespace {

// A valid file; tests append to it.
constexpr char kData[] = "data: {train: [{synthetic: uniform}]}\n";

std::string Error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const absl::StatusOr<Config> config = ParseConfig(text, "a.yaml", overrides);
  return config.ok() ? "ok" : std::string(config.status().message());
}

std::string OverrideError(const std::string& override_text) { return Error(kData, {override_text}); }

Config MustParse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const absl::StatusOr<Config> config = ParseConfig(text, "a.yaml", overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : Config();
}

TEST(Yaml, ReadsTheContractOfTheReadme) {
  const Config config = MustParse(R"(
model: {model_type: deepseek_v3, hidden_size: 128}
data:
  tokenizer: bytes                  # or a folder
  train: [{path: a.jsonl.gz, field: body, weight: 2}]
  validation: [{path: b.txt}]
  sequence_length: 128
batch: {sequences: 8, micro_sequences: 4}
optim: {name: adamw, lr: 1.0e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: .1, clip: 1,
        schedule: {name: cosine, warmup_steps: 20, final_factor: 0.1}}
precision: bf16
train: {steps: 300, seed: 1, validate_every: 50, checkpoint_every: 100, keep: 3}
run: {dir: "runs/demo"}
)");
  EXPECT_EQ(config.model.hidden_size, 128);
  ASSERT_EQ(config.data.train.size(), 1u);
  EXPECT_EQ(config.data.train[0].path, "a.jsonl.gz");
  EXPECT_EQ(config.data.train[0].weight, 2.0);
  EXPECT_EQ(config.optim.lr, 1e-3);
  EXPECT_EQ(config.optim.eps, 1e-8);
  EXPECT_EQ(config.optim.weight_decay, 0.1);
  EXPECT_EQ(config.optim.betas, (std::vector<double>{0.9, 0.95}));
  EXPECT_EQ(config.optim.schedule.warmup_steps, 20);
  EXPECT_EQ(config.ComputePrecision(), Precision::kBf16);
  EXPECT_EQ(config.run.dir, "runs/demo");
}

TEST(Yaml, NamesPlaceKeyAndValueOfAWrongType) {
  const std::string text = kData;
  EXPECT_EQ(Error(text + "optim:\n  lr: fast\n"), "a.yaml:3:7: optim.lr: \"fast\" is not a number");
  EXPECT_EQ(Error(text + "train: {steps: 1.5}\n"), "a.yaml:2:16: train.steps: \"1.5\" is not a whole number");
  EXPECT_EQ(Error(text + "train: {steps: 1e3}\n"), "a.yaml:2:16: train.steps: \"1e3\" is not a whole number");
  EXPECT_EQ(Error(text + "train: {steps: 99999999999999999999}\n"),
            "a.yaml:2:16: train.steps: \"99999999999999999999\" does not fit into 64 bits");
  EXPECT_EQ(Error(text + "train: {steps: 010}\n"),
            "a.yaml:2:16: train.steps: \"010\" is not a whole number: write it without the leading 0");
  EXPECT_EQ(Error(text + "optim: {lr: .inf}\n"), "a.yaml:2:13: optim.lr: \".inf\" is not a number");
  EXPECT_EQ(Error(text + "optim: {lr: nan}\n"), "a.yaml:2:13: optim.lr: \"nan\" is not a number");
  EXPECT_EQ(Error(text + "optim: {lr: 1e999}\n"),
            "a.yaml:2:13: optim.lr: \"1e999\" is too large or too small for a double");
  EXPECT_EQ(Error(text + "optim: {lr: \"1e-3\"}\n"),
            "a.yaml:2:13: optim.lr: \"1e-3\" is text in quotes; a number is expected");
  EXPECT_EQ(Error(text + "model: {tie_word_embeddings: yes}\n"),
            "a.yaml:2:30: model.tie_word_embeddings: \"yes\" is neither true nor false");
  EXPECT_EQ(Error(text + "optim: {lr:}\n"), "a.yaml:2:9: optim.lr: nothing is given; a number is expected");
  EXPECT_EQ(Error(text + "optim: {lr: [1, 2]}\n"), "a.yaml:2:13: optim.lr: a list is given; a number is expected");
  EXPECT_EQ(Error(text + "optim: {lr: {a: 2}}\n"),
            "a.yaml:2:13: optim.lr: keys with values is given; a number is expected");
  EXPECT_EQ(Error(text + "optim: {betas: 0.9}\n"),
            "a.yaml:2:16: optim.betas: \"0.9\" is given; a list such as [a, b] is expected");
  EXPECT_EQ(Error(text + "optim: {betas: [0.9, x]}\n"), "a.yaml:2:22: optim.betas.1: \"x\" is not a number");
  EXPECT_EQ(Error(text + "optim: adamw\n"), "a.yaml:2:8: optim: \"adamw\" is given; keys with values is expected");
  EXPECT_EQ(Error(text + "run:\n"), "a.yaml:2:1: run: nothing is given; keys with values is expected");
  EXPECT_EQ(Error("data: {train: a.txt}\n"),
            "a.yaml:1:15: data.train: \"a.txt\" is given; a list such as [a, b] is expected");
  EXPECT_EQ(Error("- a\n"), "a.yaml:1:1: a list is given; keys with values is expected");
  EXPECT_EQ(Error("just text"), "a.yaml:1:1: \"just text\" is given; keys with values is expected");
}

TEST(Yaml, ReportsAllMistakesOfAFileAtOnceInItsOrder) {
  EXPECT_EQ(Error("optim: {lr: x}\nbatch: {sequence: 8}\ntrain: {steps: y}\n"),
            "a.yaml:1:13: optim.lr: \"x\" is not a number\n"
            "a.yaml:2:9: unknown key batch.sequence; did you mean batch.sequences?\n"
            "a.yaml:3:16: train.steps: \"y\" is not a whole number");
}

TEST(Yaml, NamesTheNeighbourOfEveryMisspeltKey) {
  const struct {
    const char *path, *misspelt, *meant;
  } cases[] = {{"optim", "lrr", "lr"},
               {"optim", "beta", "betas"},
               {"optim", "epz", "eps"},
               {"optim", "weight_deacy", "weight_decay"},
               {"optim", "weightdecay", "weight_decay"},
               {"optim", "clipp", "clip"},
               {"optim", "shedule", "schedule"},
               {"optim", "emma", "ema"},
               {"optim", "zloss", "z_loss"},
               {"optim", "nmae", "name"},
               {"train", "step", "steps"},
               {"train", "sed", "seed"},
               {"train", "validate_evry", "validate_every"},
               {"train", "checkpoint_evey", "checkpoint_every"},
               {"train", "keeps", "keep"},
               {"train", "initstd", "init_std"},
               {"batch", "sequence", "sequences"},
               {"batch", "micro_sequence", "micro_sequences"},
               {"batch", "rmap", "ramp"},
               {"data", "tokeniser", "tokenizer"},
               {"data", "sequence_lenght", "sequence_length"},
               {"data", "mask_document", "mask_documents"},
               {"data", "vaildation", "validation"},
               {"model", "hiden_size", "hidden_size"},
               {"model", "num_attention_head", "num_attention_heads"},
               {"model", "n_routed_expert", "n_routed_experts"},
               {"model", "kv_lora_rnak", "kv_lora_rank"},
               {"model", "rope_thetta", "rope_theta"},
               {"model", "vocabsize", "vocab_size"},
               {"model", "num_expert_per_tok", "num_experts_per_tok"},
               {"moe", "mtp_weigth", "mtp_weight"},
               {"moe", "balance_los", "balance_loss"},
               {"checkpoint", "weight", "weights"},
               {"run", "dri", "dir"}};
  for (const auto& [path, misspelt, meant] : cases) {
    const std::string error = Error(std::string(path) + ":\n  " + misspelt + ": 1\n");
    EXPECT_EQ(error, std::string("a.yaml:2:3: unknown key ") + path + "." + misspelt + "; did you mean " + path + "." +
                         meant + "?");
  }
}

TEST(Yaml, FindsKeysThatStandInTheWrongPlace) {
  EXPECT_EQ(Error("weight_decay: 1\n"), "a.yaml:1:1: unknown key weight_decay; did you mean optim.weight_decay?");
  EXPECT_EQ(Error("optim: {sequences: 1}\n"), "a.yaml:1:9: unknown key optim.sequences; did you mean batch.sequences?");
  EXPECT_EQ(Error("run: {xyzzy: 1}\n"), "a.yaml:1:7: unknown key run.xyzzy; known here: dir");
}

TEST(Yaml, RefusesWhatAConfigHasNoUseFor) {
  EXPECT_EQ(Error("run: {dir: a}\nrun: {dir: b}\n"), "a.yaml:2:1: duplicate key \"run\", given before on line 1");
  EXPECT_EQ(Error("optim: {lr: 1, eps: 1, lr: 2}\n"), "a.yaml:1:24: duplicate key \"lr\", given before on line 1");
  const std::string anchors = "anchors (&name) and aliases (*name) are not supported";
  EXPECT_NE(Error("run: &a {dir: x}\n").find("a.yaml:1:6: " + anchors), std::string::npos);
  EXPECT_NE(Error("run: {dir: &a x}\nstage: *a\n").find("a.yaml:1:12: " + anchors), std::string::npos);
  EXPECT_NE(Error("run: {dir: !!str x}\n").find("a.yaml:1:12: tags (!name) are not supported"), std::string::npos);
  EXPECT_NE(Error("run: !run {dir: x}\n").find("a.yaml:1:6: tags"), std::string::npos);
  EXPECT_EQ(Error("run: {dir: x}\n---\nrun: {dir: y}\n"), "a.yaml:2:1: a second document; a file holds one");
  EXPECT_EQ(Error("%YAML 1.2\n---\nrun: {dir: x}\n"),
            "a.yaml:1:1: directives (%...) are not supported; quote the text");
  EXPECT_EQ(Error("[a, b]: 1\n"), "a.yaml:1:1: a key must be a plain word; is a bracket left open?");
  EXPECT_EQ(Error("~: 1\n"), "a.yaml:1:1: a key must be a plain word");
  EXPECT_EQ(Error("<<: {a: 1}\n").substr(0, 27), "a.yaml:1:1: unknown key <<;");
}

TEST(Yaml, ExplainsBrokenSyntax) {
  EXPECT_EQ(Error("train:\n\tsteps: 3\n"),
            "a.yaml:2:7: not valid YAML: illegal map value; the line is indented with a tab: use spaces");
  EXPECT_EQ(Error("data: {train: [{path: *.txt}]}\n"),
            "a.yaml:1:23: not valid YAML: the referenced anchor is not defined; a text that starts with this character "
            "needs quotes");
  EXPECT_NE(Error("run: {dir: @home}\n").find("needs quotes"), std::string::npos);
  EXPECT_EQ(Error("run: {dir: x\n"), "a.yaml:2:1: not valid YAML: end of map flow not found");
  EXPECT_EQ(Error("data: [{path: x"), "a.yaml:1:8: a key must be a plain word; is a bracket left open?");
  EXPECT_EQ(Error("run: dir: x\n").substr(0, 12), "a.yaml:1:9: ");
  EXPECT_EQ(Error(std::string("run: {dir: \x04}\n")), "a.yaml:1:12: control character 0x04");
  EXPECT_EQ(Error("stage: x\nrun: {dir: \xff}\n"), "a.yaml:2:12: byte 0xff is not UTF-8");
  EXPECT_EQ(Error("run: {dir: \xc0\xaf}\n"), "a.yaml:1:12: byte 0xc0 is not UTF-8");
  EXPECT_EQ(Error("run: {dir: \xed\xa0\x80}\n"), "a.yaml:1:12: byte 0xed is not UTF-8");
}

TEST(Yaml, AcceptsUtf8ByteOrderMarkAndWindowsLineEnds) {
  EXPECT_EQ(MustParse(std::string("\xEF\xBB\xBF") + kData + "run: {dir: \xC3\xA4}\r\n").run.dir, "\xC3\xA4");
}

TEST(Yaml, PutsThePlaceOfTheKeyBeforeARuleThatIsBroken) {
  EXPECT_EQ(Error(std::string(kData) + "batch:\n  sequences: 0\n"),
            "a.yaml:3:14: batch.sequences: 0 is outside 1 .. 1048576");
  EXPECT_EQ(Error("data:\n  train:\n  - {path: a, synthetic: uniform}\n").substr(0, 28),
            "a.yaml:3:5: data.train.0: mo");
  EXPECT_EQ(OverrideError("train.steps=-1"),
            "override \"train.steps=-1\": train.steps: -1 is outside 1 .. 1099511627776");
  EXPECT_EQ(Error("").substr(0, 37), "a.yaml:1:1: data.train: no source of ");
}

TEST(Yaml, ModelFromExcludesTheOtherKeys) {
  EXPECT_EQ(MustParse(std::string(kData) + "model: {from: some/dir}\n").model.from, "some/dir");
  const std::string error =
      "a.yaml:2:9: model.hidden_size: is given beside model.from, whose config.json decides; remove one of them";
  EXPECT_EQ(Error(std::string(kData) + "model: {hidden_size: 64, from: some/dir}\n"), error);
  EXPECT_EQ(Error(std::string(kData) + "model: {hidden_size: 64}\n", {"model.from=some/dir"}), error);
  EXPECT_EQ(Error(std::string(kData) + "model: {hidden_size: 64, from: \"\"}\n"), "ok");
}

TEST(YamlOverrides, SetReplaceAndAppend) {
  const Config config = MustParse(
      kData, {"optim.lr=2e-3", "optim.schedule.name=cosine", "data.train=[{path: a}, {path: b}]",
              "data.train.1.path=c d.txt", "data.train.2={path: e, weight: 3}", "optim.betas.0=0.8", "run.dir=x=y",
              "optim.betas=[0.5, 0.6]", "data.validation.0.path=v", "train.steps=5", "train.steps=6"});
  EXPECT_EQ(config.optim.lr, 2e-3);
  EXPECT_EQ(config.optim.schedule.name, "cosine");
  ASSERT_EQ(config.data.train.size(), 3u);
  EXPECT_EQ(config.data.train[0].path, "a");
  EXPECT_EQ(config.data.train[1].path, "c d.txt");
  EXPECT_EQ(config.data.train[2].weight, 3.0);
  EXPECT_EQ(config.run.dir, "x=y");
  EXPECT_EQ(config.optim.betas, (std::vector<double>{0.5, 0.6}));
  ASSERT_EQ(config.data.validation.size(), 1u);
  EXPECT_EQ(config.train.steps, 6);
}

TEST(YamlOverrides, ErrorsNameTheOverride) {
  EXPECT_EQ(OverrideError("optim.lr=fast"), "override \"optim.lr=fast\": optim.lr: \"fast\" is not a number");
  EXPECT_EQ(OverrideError("optim.lrr=1"), "override \"optim.lrr=1\": unknown key optim.lrr; did you mean optim.lr?");
  EXPECT_EQ(OverrideError("optm.lr=1"), "override \"optm.lr=1\": unknown key optm; did you mean optim?");
  for (const char* text : {"optim.lr", "=1", "", ".a=1", "a.=1", "a..b=1"}) {
    EXPECT_EQ(OverrideError(text), "override \"" + std::string(text) + "\": expected KEY=VALUE, such as optim.lr=1e-3");
  }
  EXPECT_EQ(OverrideError("optim.lr="), "override \"optim.lr=\": optim.lr: nothing is given; a number is expected");
  EXPECT_EQ(OverrideError("data.train.3.path=x"),
            "override \"data.train.3.path=x\": data.train has 1 entries, counted from 0; there is no 3");
  EXPECT_EQ(OverrideError("data.train.path=x"),
            "override \"data.train.path=x\": data.train is a list; \"path\" does not lead into it");
  EXPECT_EQ(OverrideError("data.0=x"), "override \"data.0=x\": data is keys with values; \"0\" does not lead into it");
  EXPECT_EQ(OverrideError("0=x"), "override \"0=x\": the top level is keys with values; \"0\" does not lead into it");
  EXPECT_EQ(OverrideError("data.train=[{path: x"),
            "override \"data.train=[{path: x\": a key must be a plain word; is a bracket left open?");
  EXPECT_NE(OverrideError("run.dir=*a").find("override \"run.dir=*a\": "), std::string::npos);
  EXPECT_NE(OverrideError("run={dir: a, dir: b}").find("duplicate key \"dir\""), std::string::npos);
}

TEST(YamlFile, MissingFolderAndTooLargeAreErrors) {
  const std::string dir = ::testing::TempDir();
  const auto message = [](const std::string& path) { return std::string(LoadConfig(path, {}).status().message()); };
  EXPECT_EQ(message(dir + "/absent.yaml"), dir + "/absent.yaml: No such file or directory");
  EXPECT_EQ(message(dir), dir + ": is a folder, not a file");
  const std::string path = dir + "/large.yaml";
  std::ofstream(path) << std::string(kMaxYamlBytes + 1, '#');
  EXPECT_EQ(message(path), path + ":1:1: more than 262144 bytes; is this a config?");
  std::ofstream(path) << kData << std::string(kMaxYamlBytes - sizeof(kData) + 1, '#');
  EXPECT_TRUE(LoadConfig(path, {}).ok());
}

TEST(YamlLimits, DepthIsBounded) {
  EXPECT_EQ(Error(std::string(33, '[') + std::string(33, ']')), "a.yaml:1:33: nested deeper than 32 levels");
  EXPECT_NE(Error(std::string(32, '[') + std::string(32, ']')).find("a list is given"), std::string::npos);
}

// The largest text of repetitions of `unit`.
std::string Fill(std::string_view unit, std::string text = "") {
  while (text.size() + unit.size() <= kMaxYamlBytes) text += unit;
  return text;
}

std::string AliasBomb() {
  std::string text = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string last = std::to_string(i - 1), next = std::to_string(i);
    text += "a" + next + ": &a" + next + " [*a" + last + ", *a" + last + "]\n";
  }
  return text;
}

std::string EverDeeper() {
  std::string text;
  for (int depth = 0; text.size() < kMaxYamlBytes / 2; ++depth) text += std::string(depth, ' ') + "a:\n";
  return text;
}

struct HostileText {
  std::string text;
  const char* expected;  // in the message
};

// Shapes that make parsers quadratic, recursive or hungry; found by repeating all pairs and random sequences of what
// YAML has a meaning for.
std::vector<HostileText> HostileTexts() {
  const char *marks = "more than 49152 brackets", *deep = "nested deeper than 32", *open = "is a bracket left open?";
  return {
      {AliasBomb(), "a.yaml:1:5: anchors"},
      {EverDeeper(), deep},
      {std::string(1 << 20, '['), "more than 262144 bytes"},
      {Fill("["), deep},
      {Fill("{"), deep},
      {Fill("[\n"), marks},
      {Fill("{a: [\n"), marks},
      {Fill("[a, "), deep},
      {Fill("a, ", "["), marks},
      {Fill("a,", "run: {dir: ["), marks},
      {Fill(",", "{"), marks},
      {Fill("a: 1, ", "{"), marks},
      {Fill("a:\n 1,\n", "{"), marks},
      {Fill(":"), marks},
      {Fill("::", "["), marks},
      {Fill(": "), marks},
      {Fill("? "), marks},
      {Fill("- "), marks},
      {Fill("-"), marks},
      {Fill("- a\n"), marks},
      {Fill("a: 1\n"), marks},
      {Fill("'"), marks},
      {Fill("\""), marks},
      {Fill("''", "a: '"), marks},
      {Fill("\\\"", "a: \""), marks},
      {Fill("|\n"), marks},
      {Fill(">-\n", "a: "), marks},
      {Fill("&a ["), deep},
      {Fill("!a "), marks},
      {Fill("*a "), marks},
      {Fill("---\n"), marks},
      {Fill("...\n"), marks},
      {Fill("\n"), marks},
      {Fill("\r"), marks},
      {Fill("a~", "{"), open},
      {Fill("a ", "["), open},
      {Fill("a\t", "- "), "a list is given"},
      {Fill("a", "a: 'x"), "not valid YAML"},
      {Fill("a"), "keys with values is expected"},
      {Fill("\xc3\xa9"), "keys with values is expected"},
      {Fill("@", "a: "), "not valid YAML"},
      {Fill("\t"), ""},
      {Fill("\t", "a:\n"), ""},
      {Fill("aaaaaaa\n ", "a: |\n "), "unknown key a"},
      {Fill("a", "a: |\n "), "unknown key a"},
      {Fill(" ", "a:\n") + "b: 1", "more than 262144 bytes"},
      {std::string(kMaxYamlBytes - 4, ' ') + "a: 1", "unknown key a"},
      {Fill("a", "%"), "directives"},
      {Fill("\x80"), "is not UTF-8"},
      {Fill("\x01"), "control character 0x01"},
      {std::string("\xff\xfe"
                   "a\0:\0 \0001\0",
                   10),
       "is not UTF-8"},
      {std::string("\0a\0:\0 \0001", 8), "control character 0x00"},
      {"a: 1\n\xef\xbb\xbf"
       "b: 1\n",
       "unknown key"},
  };
}

TEST(YamlLimits, HostileTextsEndInAnErrorInATenthOfASecondAnd64MiB) {
  for (const auto& [text, expected] : HostileTexts()) {
    const testing::HeapPeak heap;
    const double limit = 0.1 * testing::kSlowdown;
    std::string error;
    const double seconds = testing::FastestCpuSeconds(limit, [&] { error = Error(text); });
    const std::string what = text.substr(0, 20) + " ..., " + error.substr(0, 100);
    EXPECT_NE(error, "ok") << what;
    EXPECT_NE(error.find(expected), std::string::npos) << what;
    EXPECT_LT(seconds, limit) << what;
    EXPECT_LT(heap.Bytes(), 64 << 20) << what;
  }
}

TEST(YamlLimits, AConfigOfSomeHundredKilobytesLoads) {
  std::string text = "# " + std::string(90, '-') + "\n" + "data:\n  train:\n";
  for (int i = 0; i < 2000; ++i) {
    text += "    # the next one\n    - path: \"/corpora/of-some-language/deduplicated/part-" + std::to_string(i) +
            ".jsonl.gz\"\n" + "      weight: 0.25\n";
  }
  ASSERT_GT(text.size(), 200u << 10);
  EXPECT_EQ(MustParse(text).data.train.size(), 2000u);
}

}  // namespace
}  // namespace conclave::core
