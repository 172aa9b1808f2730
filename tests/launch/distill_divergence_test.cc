// SPDX-License-Identifier: Apache-2.0
// Stage distill where a teacher's distributions are learned, as a user runs it: on the teacher's samples and on the
// student's own, killed at any instant, and what cannot work is refused.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/reject_run.h"

namespace conclave::launch {
namespace {

class DistillDivergence : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    teacher_ = new SampledModel;
    const Outcome trained = teacher_->Train();
    ASSERT_EQ(trained.code, 0) << trained.err;
    off_policy_ = new RejectRun(RejectRun::OfDistill(*teacher_, RejectRun::kForwardKl));
    on_policy_ = new RejectRun(RejectRun::OfDistill(*teacher_, RejectRun::kOwnSamples));
    for (const RejectRun* run : {off_policy_, on_policy_}) {
      const Outcome outcome = run->Train();
      ASSERT_EQ(outcome.code, 0) << outcome.err;
    }
  }
  static void TearDownTestSuite() {
    delete on_policy_;
    delete off_policy_;
    delete teacher_;
  }

  static SampledModel* teacher_;
  static RejectRun *off_policy_, *on_policy_;
};

SampledModel* DistillDivergence::teacher_ = nullptr;
RejectRun* DistillDivergence::off_policy_ = nullptr;
RejectRun* DistillDivergence::on_policy_ = nullptr;

TEST_F(DistillDivergence, TheStudentComesCloserToItsTeacher) {
  for (const RejectRun* run : {off_policy_, on_policy_}) {
    const std::vector<nlohmann::json> steps = JsonLines(run->Metrics());
    ASSERT_EQ(steps.size(), 30u);
    EXPECT_GT(steps.front().at("teacher_kl").get<double>(), 1);
    EXPECT_LT(steps.back().at("teacher_kl").get<double>(), 0.7 * steps.front().at("teacher_kl").get<double>());
    EXPECT_TRUE(steps.back().contains("pass_at_1"));
    EXPECT_TRUE(std::filesystem::exists(run->Dir() + "/checkpoints/step_30/config.json"));
  }
  EXPECT_LT(JsonLines(off_policy_->Metrics()).back().at("loss").get<double>(),
            JsonLines(off_policy_->Metrics()).front().at("loss").get<double>() / 2);
}

TEST_F(DistillDivergence, SamplesOfTheTeacherAreThoseOfEveryLoss) {
  const RejectRun samples(RejectRun::OfDistill(*teacher_));
  ASSERT_EQ(samples.Train({"train.steps=1"}).code, 0);
  EXPECT_EQ(off_policy_->TeacherLines(), samples.TeacherLines());
  EXPECT_FALSE(std::filesystem::exists(on_policy_->Dir() + "/data"));
}

TEST_F(DistillDivergence, EveryStepOnOwnSamplesSeesThatTheyAre) {
  for (const nlohmann::json& step : JsonLines(on_policy_->Metrics())) {
    EXPECT_EQ(step.at("sampler_difference"), 0.0);
    EXPECT_EQ(step.at("samples"), 24);
    EXPECT_FALSE(step.contains("policy_loss")) << "rewards have no part in it";
  }
}

TEST_F(DistillDivergence, KilledAtAnyInstantAndResumedGivesTheSameBits) {
  for (const char* loss : {RejectRun::kForwardKl, RejectRun::kOwnSamples}) {
    const RejectRun run(RejectRun::OfDistill(*teacher_, loss));
    TrainUnderKills(run, 11);
    const RejectRun& whole = loss == RejectRun::kForwardKl ? *off_policy_ : *on_policy_;
    EXPECT_EQ(run.Hash(), whole.Hash());
    EXPECT_EQ(run.Metrics(), whole.Metrics());
  }
}

TEST_F(DistillDivergence, AStudentThatIsItsTeacherStaysIt) {
  for (const char* loss : {RejectRun::kForwardKl, RejectRun::kOwnSamples}) {
    const RejectRun run("stage: distill\nmodel: {from: \"" + teacher_->Dir() + "\"}\n" + "teacher: \"" +
                        teacher_->Dir() + "\"\noptim: {weight_decay: 0}\ntrain: {steps: 3}\n" + loss);
    const Outcome outcome = run.Train();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    for (const nlohmann::json& step : JsonLines(run.Metrics())) {
      EXPECT_EQ(step.at("teacher_kl"), 0.0);
      EXPECT_EQ(step.at("grad_norm"), 0.0);
    }
  }
}

TEST_F(DistillDivergence, OwnSamplesNeedNoVerifierAndAreReplayed) {
  const RejectRun run(RejectRun::OfDistill(*teacher_, RejectRun::kOwnSamples));
  ASSERT_EQ(run.Train({"reward=[]", "train.steps=5"}).code, 0);
  const Outcome replay = RunConclave(run.folder(), {"replay", run.Dir(), "--step", "5", "--sample", "3"});
  EXPECT_EQ(replay.code, 0) << replay.out << replay.err;
}

TEST_F(DistillDivergence, TellsBeforehandWhatTheTeacherTakes) {
  const RejectRun run(RejectRun::OfDistill(*teacher_, RejectRun::kOwnSamples));
  const Outcome outcome = run.Train({"model.hidden_size=64", "--dry-run"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* text : {"fewer than the student has", "of the FLOPs of the student's training",
                           "reverse_kl at temperature 1", "teacher and its passes"}) {
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text << "\n" << outcome.out;
  }
}

TEST_F(DistillDivergence, RefusesWhatCannotWork) {
  const struct {
    const char* loss;
    const char* override_text;
    int code;
    const char* message;
  } cases[] = {
      {RejectRun::kOwnSamples, "teacher=nowhere", 1, "nowhere"},
      {RejectRun::kOwnSamples, "model.vocab_size=300", 2,
       "has distributions over 265 ids (vocab_size), the student over 300"},
      {RejectRun::kForwardKl, "model.vocab_size=300", 2, "distill.loss: forward_kl needs the same"},
      {RejectRun::kOwnSamples, "tasks=[]", 2, "data.prompts: no problems to solve"},
      {RejectRun::kOwnSamples, "distill.keep=2", 2, "distill.keep: 2 is of the teacher's samples"},
  };
  for (const auto& [loss, override_text, code, message] : cases) {
    const RejectRun run(RejectRun::OfDistill(*teacher_, loss));
    const Outcome outcome = run.Train({override_text});
    EXPECT_EQ(outcome.code, code) << override_text;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << override_text << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/checkpoints"));
  }
}

TEST_F(DistillDivergence, RefusesATeacherWithAnotherTokenizer) {
  const RejectRun run(RejectRun::OfDistill(*teacher_, RejectRun::kOwnSamples));
  std::string text;
  for (int i = 0; i < 200; ++i) text += std::to_string(i * 37 % 100) + "+" + std::to_string(i % 50) + "= some text\n";
  WriteFile(run.folder() / "text.txt", text);
  const Outcome made = RunConclave(run.folder(), {"tokenize", "--train", run.folder() / "text.txt", "--vocab-size",
                                                  "300", "--out", run.folder() / "other"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Outcome outcome = run.Train({"data.tokenizer=" + (run.folder() / "other")});
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("has another tokenizer (265 ids"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace conclave::launch
