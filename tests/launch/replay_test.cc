// SPDX-License-Identifier: Apache-2.0
// `conclave replay`: any sample of a run again, to the bit; and what keeps it from that.
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/tiny_grpo.h"

namespace conclave::launch {
namespace {

using Words = std::vector<std::string>;

Outcome Replay(const TinyGrpo& run, int step, int sample, const Words& more = {}) {
  Words arguments = {"replay", run.Dir(), "--step", std::to_string(step), "--sample", std::to_string(sample)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunConclave(run.folder(), arguments);
}

void ExpectEqual(const TinyGrpo& run, int step, int sample, const Words& more = {}) {
  const Outcome outcome = Replay(run, step, sample, more);
  EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "log-probabilities and the reward, to the bit")) << outcome.out;
}

class ReplayCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    run_ = new TinyGrpo;
    ASSERT_EQ(run_->Train().code, 0);
  }
  static void TearDownTestSuite() { delete run_; }

  static TinyGrpo* run_;
};

TinyGrpo* ReplayCommand::run_ = nullptr;

TEST_F(ReplayCommand, GivesSamplesOfAllStepsAgainToTheBit) {
  ExpectEqual(*run_, 1, 0);  // of the first weights, drawn from the seed
  ExpectEqual(*run_, 2, 7);
  ExpectEqual(*run_, 3, 15, {"--threads", "2"});
  // The same sample by its names: the third step draws prompts 8 to 11.
  const Outcome by_names = Replay(*run_, 3, 3, {"--draw", "11"});
  EXPECT_EQ(by_names.code, 0) << by_names.err;
  EXPECT_EQ(by_names.out, Replay(*run_, 3, 15).out);
}

TEST_F(ReplayCommand, ShowsTokensTextAlternativesAndRewards) {
  const Outcome outcome = Replay(*run_, 2, 5, {"--top", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part : {"sample     1 of draw 5, in step 2 (16 samples)", "step_1", "prompt ", "likeliest",
                           "response ", "ending ", " = 1 x random ", " + 0.5 x math 0"}) {
    EXPECT_TRUE(Contains(outcome.out, part)) << part << "\n" << outcome.out;
  }
  EXPECT_FALSE(Contains(Replay(*run_, 2, 5, {"--top", "0"}).out, "likeliest"));
}

TEST_F(ReplayCommand, KnowsTheAgeOfSamplesAndFiltersAndRoundedFiles) {
  for (const std::string rounded : {"precision=bf16", "checkpoint.weights=bf16"}) {
    const TinyGrpo run;
    const Outcome outcome = run.Train({"grpo.off_policy.max_age=1", "grpo.off_policy.correction=truncate",
                                       "rollout.top_k=20", "train.steps=4", rounded});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    ExpectEqual(run, 2, 3);  // of the weights of step 0
    ExpectEqual(run, 4, 3);  // of step 2
    EXPECT_TRUE(Contains(Replay(run, 4, 3).out, "step_2"));
  }
}

TEST_F(ReplayCommand, AnyOtherBitInTheFileIsADifference) {
  const TinyGrpo run;
  ASSERT_EQ(run.Train({"train.steps=2"}).code, 0);
  const std::string text = ReadFile(run.RolloutPath(2));
  const size_t first = text.find("\"log_probs\": [") == std::string::npos ? text.find("\"log_probs\":[") + 13
                                                                          : text.find("\"log_probs\": [") + 14;
  const auto replay_of = [&](size_t at, size_t length, const std::string& other) {
    WriteFile(run.RolloutPath(2), text.substr(0, at) + other + text.substr(at + length));
    return Replay(run, 2, 0);
  };
  const Outcome log_prob = replay_of(first, text.find_first_of(",]", first) - first, "-5.25");
  EXPECT_EQ(log_prob.code, 1);
  EXPECT_TRUE(Contains(log_prob.out, "DIFFERENT  1 tokens or their log-probabilities")) << log_prob.out;
  const size_t reward = text.find("\"random\":") + 9;
  const Outcome score = replay_of(reward, text.find_first_of(",}", reward) - reward, "0.25");
  EXPECT_EQ(score.code, 1);
  EXPECT_TRUE(Contains(score.out, "DIFFERENT  reward")) << score.out;
  const size_t prompt = text.find("\"prompt_ids\":[") + 14;
  const Outcome other = replay_of(prompt, text.find(',', prompt) - prompt, "7");
  EXPECT_EQ(other.code, 1);
  EXPECT_TRUE(Contains(other.err, "which is another prompt than the run has kept")) << other.err;
}

TEST_F(ReplayCommand, SaysWhatIsMissing) {
  const TinyGrpo run;
  ASSERT_EQ(run.Train({"train.keep=1"}).code, 0);
  const Outcome gone = Replay(run, 2, 0);
  EXPECT_EQ(gone.code, 1);
  EXPECT_TRUE(Contains(gone.err, "the weights of step 1, of which there is no checkpoint: there are those of steps 3"))
      << gone.err;
  EXPECT_TRUE(Contains(gone.err, "train.keep (1)")) << gone.err;
  ExpectEqual(run, 1, 0);  // needs none

  const Outcome sample = Replay(run, 3, 16);
  EXPECT_EQ(sample.code, 2);
  EXPECT_TRUE(Contains(sample.err, "--sample: step 3 has 16 samples, counted from 0")) << sample.err;
  const Outcome draw = Replay(run, 3, 0, {"--draw", "12"});
  EXPECT_EQ(draw.code, 2);
  EXPECT_TRUE(Contains(draw.err, "--draw: step 3 has draws 8 to 11")) << draw.err;
  const Outcome step = Replay(run, 4, 0);
  EXPECT_EQ(step.code, 1);
  EXPECT_TRUE(Contains(step.err, "--step: there are no rollouts of step 4")) << step.err;
  WriteFile(run.RolloutPath(2), "{}\n");
  EXPECT_TRUE(Contains(Replay(run, 2, 0).err, "is not a file of rollouts"));
  const Outcome folder = RunConclave(run.folder(), {"replay", run.folder() / "x", "--step", "1", "--sample", "0"});
  EXPECT_EQ(folder.code, 1);
  EXPECT_TRUE(Contains(folder.err, "is not a run folder")) << folder.err;
}

}  // namespace
}  // namespace conclave::launch
