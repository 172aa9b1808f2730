// SPDX-License-Identifier: Apache-2.0
// Stage distill as a user runs it: a student of another architecture learns from what its teacher answers, a kill in
// either half changes nothing, and what cannot work is refused.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/reject_run.h"

namespace conclave::launch {
namespace {

class Distill : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    teacher_ = new SampledModel;
    const Outcome trained = teacher_->Train();
    ASSERT_EQ(trained.code, 0) << trained.err;
    whole_ = new RejectRun(RejectRun::OfDistill(*teacher_));
    const Outcome outcome = whole_->Train();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static void TearDownTestSuite() {
    delete whole_;
    delete teacher_;
  }
  static void ExpectSame(const RejectRun& run) {
    EXPECT_EQ(run.TeacherLines(), whole_->TeacherLines());
    EXPECT_EQ(run.Hash(), whole_->Hash());
    EXPECT_EQ(run.Metrics(), whole_->Metrics());
  }

  static SampledModel* teacher_;
  static RejectRun* whole_;
};

SampledModel* Distill::teacher_ = nullptr;
RejectRun* Distill::whole_ = nullptr;

TEST_F(Distill, TheTeacherAnswersAsInStageReject) {
  const RejectRun reject(RejectRun::OfReject(*teacher_));
  ASSERT_EQ(reject.Train().code, 0);
  EXPECT_EQ(whole_->TeacherLines(), reject.Lines());
}

TEST_F(Distill, TheStudentLearnsWhatItsTeacherAnswered) {
  const std::vector<nlohmann::json> steps = JsonLines(whole_->Metrics());
  ASSERT_EQ(steps.size(), 30u);
  EXPECT_LT(steps.back().at("loss").get<double>(), steps.front().at("loss").get<double>() / 2);
  EXPECT_TRUE(steps.back().contains("pass_at_1"));
  EXPECT_TRUE(std::filesystem::exists(whole_->Dir() + "/checkpoints/step_30/config.json"));
}

TEST_F(Distill, IsFineTuningOnTheTeachersFile) {
  std::string options = RejectRun::OfDistill(*teacher_);
  options.replace(0, options.find("model:"), "stage: sft\n");
  const RejectRun tuning(options);
  const Outcome outcome = tuning.Train({"data.train=[{path: \"" + whole_->Dir() + "/data/teacher.jsonl\"}]"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(tuning.Metrics(), whole_->Metrics());
}

TEST_F(Distill, KilledAtAnyInstantAndResumedGivesTheSameBits) {
  const RejectRun run(RejectRun::OfDistill(*teacher_));
  TrainUnderKills(run, 7);
  ExpectSame(run);
}

TEST_F(Distill, TheTeachersFileIsMadeAnewWhereItIsMissing) {
  const RejectRun run(RejectRun::OfDistill(*teacher_));
  ASSERT_EQ(run.Train({"train.steps=12"}).code, 0);
  std::filesystem::remove_all(run.Dir() + "/data");
  ASSERT_EQ(run.Train().code, 0);
  EXPECT_EQ(run.TeacherLines(), whole_->TeacherLines());
  EXPECT_EQ(run.Hash(), whole_->Hash());
  EXPECT_EQ(CountLines(run.Metrics()), 30) << "the line of a validation before the resume is one of them";
}

TEST_F(Distill, ARecipeHandsSamplesAndTeachersOn) {
  const RejectRun run(
      "model: {model_type: qwen2, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,\n"
      "        num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 64}\n"
      "train: {steps: 5}\n"
      "reject: {prompts: 12}\n"
      "distill: {prompts: 12}\n"
      "stages:\n"
      "  - {name: kept, stage: reject, from: \"" +
      teacher_->Dir() +
      "\"}\n"
      "  - {name: after, stage: sft, sft: {data: kept}}\n"
      "  - {name: small, stage: distill, teacher: \"" +
      teacher_->Dir() + "\"}\n");
  const Outcome outcome = run.Train();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string stages = run.Dir() + "/stages/";
  EXPECT_EQ(ReadFile(stages + "kept/data/reject.jsonl"), ReadFile(stages + "small/data/teacher.jsonl"));
  for (const char* name : {"after", "small"}) {
    EXPECT_TRUE(std::filesystem::exists(stages + name + "/checkpoints/step_5")) << name;
  }
  EXPECT_NE(run.Train().out.find("already done"), std::string::npos);
}

TEST_F(Distill, IsDoneOnce) {
  const Outcome again = whole_->Train();
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("already done"), std::string::npos) << again.out;
}

TEST_F(Distill, AStudentMayBeLargerWhichIsSaid) {
  const RejectRun run(RejectRun::OfDistill(*teacher_));
  const Outcome outcome = run.Train({"model.hidden_size=64", "train.steps=1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("the student is larger than its teacher"), std::string::npos) << outcome.out;
  const RejectRun smaller(RejectRun::OfDistill(*teacher_));
  EXPECT_EQ(smaller.Train({"train.steps=1"}).out.find("larger than its teacher"), std::string::npos);
}

TEST_F(Distill, RefusesWhatCannotWork) {
  const struct {
    const char* override_text;
    int code;
    const char* message;
  } cases[] = {
      {"teacher=\"\"", 2, "teacher: \"\" is empty"},
      {"teacher=nowhere", 1, "nowhere"},
      {"distill.keep=5", 2, "distill.keep: 5 is more than the distill.samples, 4"},
      {"data.sequence_length=20", 2, "data.sequence_length: 20 has no room"},
      {"rollout.max_tokens=2", 1, "no sample was kept"},
  };
  for (const auto& [override_text, code, message] : cases) {
    const RejectRun run(RejectRun::OfDistill(*teacher_));
    const Outcome outcome = run.Train({override_text});
    EXPECT_EQ(outcome.code, code) << override_text;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << override_text << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/checkpoints/step_30"));
  }
}

TEST_F(Distill, RefusesATeacherWithAnotherTokenizer) {
  const RejectRun run(RejectRun::OfDistill(*teacher_));
  std::string text;
  for (int i = 0; i < 200; ++i) text += std::to_string(i * 37 % 100) + "+" + std::to_string(i % 50) + "= some text\n";
  WriteFile(run.folder() / "text.txt", text);
  const Outcome made = RunConclave(run.folder(), {"tokenize", "--train", run.folder() / "text.txt", "--vocab-size",
                                                  "300", "--out", run.folder() / "other"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Outcome outcome = run.Train({"data.tokenizer=" + (run.folder() / "other")});
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("has another tokenizer (265 ids"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/data/teacher.jsonl"));
}

}  // namespace
}  // namespace conclave::launch
