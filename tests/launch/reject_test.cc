// SPDX-License-Identifier: Apache-2.0
// Stage reject as a user runs it: what is written is what was drawn and right, fine-tuning learns those
// very tokens, a kill changes nothing, and what cannot work is refused.
#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "gtest/gtest.h"

#include "core/config/config.h"
#include "data/sft_samples.h"
#include "tests/launch/reject_run.h"

namespace conclave::launch {
namespace {

using SampleName = std::pair<int64_t, int64_t>;  // draw, sample

std::map<SampleName, nlohmann::json> Rollouts(const std::string& dir) {
  std::map<SampleName, nlohmann::json> samples;
  for (const auto& entry : std::filesystem::directory_iterator(dir + "/rollouts")) {
    for (const nlohmann::json& line : JsonLines(ReadFile(entry.path()))) {
      if (line.contains("draw")) samples[{line.at("draw"), line.at("sample")}] = line;
    }
  }
  return samples;
}

int64_t Sum(const std::string& metrics, const char* key) {
  int64_t sum = 0;
  for (const nlohmann::json& line : JsonLines(metrics)) sum += line.at(key).get<int64_t>();
  return sum;
}

class Reject : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new SampledModel;
    const Outcome trained = model_->Train();
    ASSERT_EQ(trained.code, 0) << trained.err;
    whole_ = new RejectRun(RejectRun::OfReject(*model_));
    const Outcome outcome = whole_->Train();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    said_ = new std::string(outcome.out);
  }
  static void TearDownTestSuite() {
    delete said_;
    delete whole_;
    delete model_;
  }

  static SampledModel* model_;
  static RejectRun* whole_;
  static std::string* said_;
};

SampledModel* Reject::model_ = nullptr;
RejectRun* Reject::whole_ = nullptr;
std::string* Reject::said_ = nullptr;

TEST_F(Reject, KeepsOfEachPromptTheShortestThatAreRightAndFinished) {
  const std::map<SampleName, nlohmann::json> drawn = Rollouts(whole_->Dir());
  EXPECT_EQ(drawn.size(), 160u);
  EXPECT_EQ(drawn.rbegin()->first, SampleName(39, 3));
  const std::vector<nlohmann::json> kept = JsonLines(whole_->Lines());
  ASSERT_GT(kept.size(), 10u);
  std::map<int64_t, std::vector<nlohmann::json>> of_prompt;
  for (const nlohmann::json& line : kept) {
    const nlohmann::json& sample = drawn.at({line.at("draw"), line.at("sample")});
    EXPECT_EQ(sample.at("rewards").at("math"), 1);
    EXPECT_EQ(sample.at("ending"), "end_token");
    EXPECT_EQ(sample.at("response"), line.at("response"));
    EXPECT_EQ(sample.at("answer"), line.at("answer"));
    EXPECT_EQ(sample.at("reward"), line.at("reward"));
    of_prompt[line.at("draw")].push_back(sample);
  }
  for (const auto& [draw, samples] : of_prompt) {
    ASSERT_LE(samples.size(), 2u);
    if (samples.size() < 2) continue;
    EXPECT_NE(samples[0].at("response"), samples[1].at("response"));
    EXPECT_LE(samples[0].at("ids").size(), samples[1].at("ids").size());
  }
}

TEST_F(Reject, FineTuningReadsTheTokensThatWereDrawn) {
  const std::map<SampleName, nlohmann::json> drawn = Rollouts(whole_->Dir());
  const auto tokenizer = data::LoadTokenizer("bytes");
  ASSERT_TRUE(tokenizer.ok());
  const auto chat_template = data::ChatTemplate::Choose("auto", **tokenizer);
  ASSERT_TRUE(chat_template.ok());
  const core::DataConfig config{.sequence_length = 48};
  const data::LoadOptions options;
  data::SampleReader reader(config, data::LearnedPart::kAnswers, **tokenizer, *chat_template, options);
  core::SourceConfig source;
  source.path = whole_->File();
  ASSERT_TRUE(reader.ReadFile(source, "data.train.0").ok());
  const data::Samples samples = reader.Take();
  const std::vector<nlohmann::json> kept = JsonLines(whole_->Lines());
  ASSERT_EQ(samples.size(), static_cast<int64_t>(kept.size()));
  for (int64_t i = 0; i < samples.size(); ++i) {
    const nlohmann::json& sample = drawn.at({kept[i].at("draw"), kept[i].at("sample")});
    std::vector<int32_t> ids = sample.at("prompt_ids");
    std::vector<uint8_t> learned(ids.size(), 0);
    for (const int32_t id : sample.at("ids")) ids.push_back(id), learned.push_back(1);
    const int64_t begin = samples.Begin(i), end = samples.ends[i];
    EXPECT_EQ(std::vector(samples.tokens.begin() + begin, samples.tokens.begin() + end), ids);
    EXPECT_EQ(std::vector(samples.learned.begin() + begin, samples.learned.begin() + end), learned);
  }
}

TEST_F(Reject, CountsEverySampleAndSaysTheRate) {
  const std::string metrics = whole_->Metrics();
  EXPECT_EQ(CountLines(metrics), 7);
  EXPECT_EQ(Sum(metrics, "prompts"), 40);
  EXPECT_EQ(Sum(metrics, "samples"), 160);
  EXPECT_EQ(Sum(metrics, "unfinished") + Sum(metrics, "wrong") + Sum(metrics, "unreadable") + Sum(metrics, "accepted"),
            160);
  EXPECT_EQ(Sum(metrics, "kept"), CountLines(whole_->Lines()));
  EXPECT_NE(said_->find("accepted " + std::to_string(Sum(metrics, "accepted")) + " of 160 samples"), std::string::npos)
      << *said_;
  EXPECT_FALSE(std::filesystem::exists(whole_->Dir() + "/checkpoints")) << "nothing was trained";
}

TEST_F(Reject, BatchesOfAnySizeWriteTheSameFile) {
  const RejectRun run(RejectRun::OfReject(*model_));
  const Outcome outcome = run.Train({"rollout.prompts=40", "rollout.decode_batch=7"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(run.Lines(), whole_->Lines());
}

TEST_F(Reject, KilledAtAnyInstantAndResumedGivesTheSameBits) {
  const RejectRun run(RejectRun::OfReject(*model_));
  TrainUnderKills(run, 6);
  EXPECT_EQ(run.Lines(), whole_->Lines());
  EXPECT_EQ(run.Metrics(), whole_->Metrics());
}

TEST_F(Reject, IsDoneOnceAndForOneConfig) {
  const RejectRun run(RejectRun::OfReject(*model_));
  ASSERT_EQ(run.Train().code, 0);
  const Outcome again = run.Train();
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("already done"), std::string::npos) << again.out;
  const Outcome other = run.Train({"reject.keep=1"});
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.err.find("reject.keep"), std::string::npos) << other.err;
  EXPECT_EQ(run.Lines(), whole_->Lines());
}

TEST_F(Reject, AnotherSeedDrawsOtherPromptsAndSamples) {
  const RejectRun run(RejectRun::OfReject(*model_));
  ASSERT_EQ(run.Train({"train.seed=2", "reject.prompts=6"}).code, 0);
  const std::map<SampleName, nlohmann::json> drawn = Rollouts(run.Dir()), before = Rollouts(whole_->Dir());
  EXPECT_EQ(drawn.size(), 24u);
  int same = 0;
  for (const auto& [name, sample] : drawn) same += sample.at("prompt_ids") == before.at(name).at("prompt_ids");
  EXPECT_LT(same, 24);
}

TEST_F(Reject, FineTuningOnWhatIsKeptLearnsIt) {
  const RejectRun tuning("stage: sft\nmodel: {from: \"" + model_->Dir() +
                         "\"}\nbatch: {sequences: 4}\noptim: {lr: 1.0e-3}\n" + "train: {steps: 40}\n");
  const Outcome outcome = tuning.Train({"data.train=[{path: \"" + whole_->File() + "\"}]"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<nlohmann::json> steps = JsonLines(tuning.Metrics());
  ASSERT_EQ(steps.size(), 40u);
  double first = 0, last = 0;
  for (int i = 0; i < 10; ++i) {
    first += steps[i].at("loss").get<double>();
    last += steps[39 - i].at("loss").get<double>();
  }
  EXPECT_LT(last, first / 2);
}

TEST_F(Reject, KeepingNothingFailsAndSaysTheRate) {
  const RejectRun run(RejectRun::OfReject(*model_));
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Outcome outcome = run.Train({"rollout.max_tokens=2"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.err.find("no sample was kept"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("accepted 0 of 160 samples (0.0%)"), std::string::npos) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run.File()));
  }
}

TEST_F(Reject, RefusesWhatCannotWork) {
  const struct {
    const char* override_text;
    const char* message;
  } cases[] = {
      {"model.from=nowhere", "nowhere"},
      {"model={model_type: qwen2}", "model.from: \"\" is empty"},
      {"reject.keep=5", "reject.keep: 5 is more than the reject.samples, 4"},
      {"reject.prompts=0", "reject.prompts: 0 is outside"},
      {"rollout.temperature=0", "reject.samples: 4 of a prompt would be the same"},
      {"rollout.max_tokens=1000", "rollout.max_tokens: 1000"},
      {"reward=[]", "reward: nothing says"},
      {"data.prompts=[{path: nowhere.jsonl}]", "nowhere.jsonl"},
      {"data.validation=[{task: addition}]", "is trained on, too"},
  };
  for (const auto& [override_text, message] : cases) {
    const RejectRun run(RejectRun::OfReject(*model_));
    const Outcome outcome = run.Train({override_text});
    EXPECT_NE(outcome.code, 0) << override_text;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << override_text << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run.File()));
  }
}

}  // namespace
}  // namespace conclave::launch
