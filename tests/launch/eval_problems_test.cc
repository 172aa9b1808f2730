// SPDX-License-Identifier: Apache-2.0
// `conclave eval` on problems: the figures of a run, from its folder; and what is refused.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/launch/tiny_grpo.h"

namespace conclave::launch {
namespace {

using Words = std::vector<std::string>;

class EvalProblems : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    run_ = new TinyGrpo;
    const Outcome outcome = run_->Train();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static void TearDownTestSuite() { delete run_; }

  static Outcome Run(const Words& more, const std::string& dir = run_->Dir()) {
    Words arguments = {"eval", dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunConclave(run_->folder(), arguments);
  }
  static nlohmann::json Json(Words more, const std::string& dir = run_->Dir()) {
    more.push_back("--json");
    const Outcome outcome = Run(more, dir);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  }
  static void ExpectFiguresOf(const nlohmann::json& metrics, const nlohmann::json& eval) {
    for (const char* name :
         {"pass_at_1", "pass_at_1_stderr", "pass_at_2", "pass_at_2_stderr", "pass_at_4", "pass_at_4_stderr", "majority",
          "majority_stderr", "evaluation_length", "evaluation_truncated"}) {
      EXPECT_EQ(eval.at(name), metrics.at(name)) << name;
    }
  }

  static TinyGrpo* run_;
};

TinyGrpo* EvalProblems::run_ = nullptr;

TEST_F(EvalProblems, OfTheLastCheckpointAreThoseThatTheRunPrinted) {
  const nlohmann::json metrics = run_->LastMetrics();
  EXPECT_GT(metrics.at("pass_at_4"), metrics.at("pass_at_1"));
  ExpectFiguresOf(metrics, Json({"--tasks", "addition"}));
  ExpectFiguresOf(metrics, Json({"--tasks", "addition", "rollout.decode_batch=5", "--threads", "2"}));
  const nlohmann::json before = Json({"--tasks", "addition"}, run_->Checkpoint(1));
  EXPECT_NE(before.at("evaluation_length"), metrics.at("evaluation_length"));
}

// Where model files are rounded, masters are not.
TEST_F(EvalProblems, OfRoundedFilesAreThoseThatTheRunPrinted) {
  for (const std::string rounded : {"precision=bf16", "checkpoint.weights=bf16"}) {
    const TinyGrpo run;
    const Outcome outcome = run.Train({rounded, "train.steps=2", "eval.prompts=100"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const nlohmann::json eval = Json({"--tasks", "addition"}, run.Dir());
    EXPECT_EQ(eval.at("precision"), rounded == "precision=bf16" ? "bf16" : "f32");
    ExpectFiguresOf(run.LastMetrics(), eval);
  }
}

TEST_F(EvalProblems, OptionsAndOverridesReplaceWhatTheRunSays) {
  const nlohmann::json eval =
      Json({"tasks.digits=2", "data.max_prompt_tokens=24", "--tasks", "addition,sorting", "--samples", "2",
            "--temperature", "0.5", "--prompts", "6", "--max-tokens", "5", "--seed", "7", "rollout.top_k=3"});
  EXPECT_EQ(eval.at("prompts"), 6);
  EXPECT_EQ(eval.at("samples"), 2);
  EXPECT_EQ(eval.at("temperature"), 0.5);
  EXPECT_EQ(eval.at("top_k"), 3);
  EXPECT_EQ(eval.at("max_tokens"), 5);
  EXPECT_LE(eval.at("evaluation_length"), 5);
  EXPECT_FALSE(eval.contains("pass_at_4"));
  // Three problems of each.
  EXPECT_EQ(
      eval.at("pass_at_1"),
      (eval.at("pass_at_1/addition/held_out").get<double>() + eval.at("pass_at_1/sorting/held_out").get<double>()) / 2);
  const nlohmann::json greedy = Json({"--tasks", "addition", "--temperature", "0"});
  EXPECT_FALSE(greedy.contains("pass_at_1"));
  EXPECT_EQ(greedy.at("greedy"), Json({"--tasks", "addition"}).at("greedy"));
}

TEST_F(EvalProblems, TheTableNamesTheSettingsAndSamplesAreSaved) {
  const std::string file = run_->folder() / "problems.jsonl", out = run_->folder() / "samples.jsonl";
  WriteFile(file, "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n{\"prompt\": \"2+2=\", \"answer\": \"4\"}\n");
  const Outcome outcome = Run({"--out", out, "--problems", file, "eval.samples=3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part : {"2 of ", "greedy, and 3 samples of each at temperature 1, seed ", "at most 16 tokens",
                           "pass@1 ", "pass@2 ", "pass@3 ", "maj@3 ", " +- "}) {
    EXPECT_TRUE(Contains(outcome.out, part)) << part << "\n" << outcome.out;
  }
  const std::string samples = ReadFile(out);
  EXPECT_EQ(std::count(samples.begin(), samples.end(), '\n'), 6);
  const nlohmann::json first = nlohmann::json::parse(samples.substr(0, samples.find('\n')));
  EXPECT_EQ(first.at("answer"), "3");
  EXPECT_TRUE(first.at("rewards").contains("math"));
  // `score` reads them.
  EXPECT_EQ(RunConclave(run_->folder(), {"score", out}).code, 0);
}

// A folder that no run has made has no config: defaults, as far as the model takes them.
TEST_F(EvalProblems, AFolderWithoutAManifestIsAskedByDefaults) {
  const std::string weights = run_->folder() / "weights";
  std::filesystem::copy(run_->Checkpoint(3), weights);
  std::filesystem::remove(weights + "/manifest.pb");
  const nlohmann::json eval = Json({"--tasks", "addition", "tasks.digits=1", "--prompts", "4"}, weights);
  EXPECT_EQ(eval.at("max_tokens"), 32);
  EXPECT_EQ(eval.at("samples"), 1);
}

TEST_F(EvalProblems, BadInputIsAnErrorThatSaysWhatToDo) {
  const std::string without = run_->folder() / "without.jsonl", none = run_->folder() / "none.jsonl",
                    longer = run_->folder() / "long.jsonl";
  WriteFile(without, "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n{\"prompt\": \"1+2=\"}\n");
  WriteFile(none, "");
  WriteFile(longer, "{\"prompt\": \"what is one and one and one?\", \"answer\": \"3\"}\n");
  struct {
    Words words;
    int code;
    const char* message;
  } const cases[] = {
      {{}, 2, "FILES: nothing to evaluate"},
      {{"--samples", "2"}, 2, "--samples: is for problems"},
      {{"--tasks", "additoin"}, 2, "did you mean addition?"},
      {{"--tasks", "addition", "--samples", "5000"}, 2, "--samples"},
      {{"--tasks", "addition", "--samples", "2", "--temperature", "0"}, 2, "all 2 would be the same"},
      {{"--tasks", "addition", "rollout.temperature=2"}, 2, "give --temperature"},
      {{"--tasks", "addition", "--max-tokens", "100"}, 2, "are more than the 64 positions of the model"},
      {{"--tasks", "addition", "tasks.digit=4"}, 2, "did you mean tasks.0.digits?"},
      {{"text.txt", "--tasks", "addition"}, 2, "FILES: text.txt: beside --tasks"},
      {{"--tasks", "addition", "--batch", "4"}, 2, "--batch"},
      {{"--tasks", "addition", "parallel.pipeline=2"}, 2, "parallel.pipeline"},
      {{"--problems", without}, 1, "without.jsonl:2: no field \"answer\""},
      {{"--problems", none}, 1, "none.jsonl"},
      {{"--problems", run_->folder() / "absent.jsonl"}, 1, "absent.jsonl"},
      {{"--problems", longer}, 1, "long.jsonl:1: the prompt has 31 tokens, more than data.max_prompt_tokens, 16"},
  };
  for (const auto& [words, code, message] : cases) {
    const Outcome outcome = Run(words);
    EXPECT_EQ(outcome.code, code) << message << "\n" << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, message)) << message << "\n" << outcome.err;
  }
}

TEST_F(EvalProblems, ATokenizerOfMoreIdsThanTheModelIsRefused) {
  const std::string tokenizer = CONCLAVE_SOURCE_DIR "/../shared/data/tokenizer_gpt2";
  if (!std::filesystem::exists(tokenizer)) GTEST_SKIP() << "there is no " << tokenizer;
  const TinyGrpo run;
  for (const Outcome& outcome : {Run({"--tasks", "addition", "--tokenizer", tokenizer}),
                                 run.Train({"data.tokenizer=" + tokenizer, "model.vocab_size=265"})}) {
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, "ids, more than the model's vocab_size, 265")) << outcome.err;
  }
}

}  // namespace
}  // namespace conclave::launch
