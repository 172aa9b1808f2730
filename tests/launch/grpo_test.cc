// SPDX-License-Identifier: Apache-2.0
// Stage grpo as a user runs it: the sampler law in every step, the restart law with rollouts, verifiers that fail, and
// what is refused.
#include <filesystem>
#include <set>
#include <string>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "launch/sample_log.h"
#include "tests/launch/grpo_run.h"
#include "tests/launch/report/markup.h"

namespace conclave::launch {
namespace {

nlohmann::json LineOf(const GrpoRun& run, int step) {
  const std::string metrics = ReadFile(run.Dir() + "/metrics.jsonl");
  size_t begin = 0;
  for (int i = 1; i < step; ++i) begin = metrics.find('\n', begin) + 1;
  return nlohmann::json::parse(metrics.substr(begin, metrics.find('\n', begin) - begin));
}

class Grpo : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    whole_ = new GrpoRun;
    const Outcome outcome = whole_->Train();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static void TearDownTestSuite() { delete whole_; }
  static void ExpectSame(const GrpoRun& run) {
    EXPECT_EQ(run.Hash(), whole_->Hash());
    EXPECT_EQ(run.Metrics(), whole_->Metrics());
    EXPECT_EQ(run.Samples(), whole_->Samples());
    for (int step = 1; step <= GrpoRun::kSteps; ++step) EXPECT_EQ(run.Rollout(step), whole_->Rollout(step)) << step;
  }
  static GrpoRun* whole_;
};

GrpoRun* Grpo::whole_ = nullptr;

TEST_F(Grpo, SamplesHaveTheTrainersLogProbabilitiesInEveryStep) {
  for (int step = 1; step <= GrpoRun::kSteps; ++step) {
    const nlohmann::json line = LineOf(*whole_, step);
    EXPECT_EQ(line.at("sampler_difference"), 0) << step;
    EXPECT_GT(line.at("grad_norm"), 0) << step;
    EXPECT_EQ(line.at("samples"), 24);
    EXPECT_EQ(line.at("updates"), 2);
    EXPECT_GT(line.at("entropy"), 1);
  }
  EXPECT_GT(LineOf(*whole_, 20).at("reference_kl"), 0);
  EXPECT_TRUE(LineOf(*whole_, 5).contains("pass_at_1"));
  EXPECT_FALSE(LineOf(*whole_, 6).contains("pass_at_1"));
}

TEST_F(Grpo, KeepsAnswersToTheSameProblemsAtEveryEvaluation) {
  const auto lines = ReadSampleLog(whole_->Dir() + "/samples.jsonl");
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 4u);
  for (size_t i = 0; i < lines->size(); ++i) {
    EXPECT_EQ((*lines)[i].step, 5 * static_cast<int64_t>(i + 1));
    ASSERT_EQ((*lines)[i].samples.size(), 3u);
    for (size_t j = 0; j < 3; ++j) {
      EXPECT_EQ((*lines)[i].samples[j].prompt, lines->front().samples[j].prompt);
      EXPECT_FALSE((*lines)[i].samples[j].answer.empty());
    }
  }
  EXPECT_NE((*lines)[0].samples[0].response, (*lines)[3].samples[0].response);  // the model has learned
}

TEST_F(Grpo, WritesAReportOfTheRun) {
  const std::string page = ReadFile(whole_->Dir() + "/report.html");
  EXPECT_EQ(MarkupError(page), "");
  for (const char* text : {"One run: reinforcement learning", "pass@1 on held-out problems", "Sample answers over time",
                           "Expert load", "Make it again", "config.yaml, resolved"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
}

TEST_F(Grpo, EverySampleOfARunIsCountedOnce) {
  std::set<std::pair<int64_t, int64_t>> names;
  for (int step = 1; step <= GrpoRun::kSteps; ++step) {
    const std::string lines = whole_->Rollout(step);
    size_t begin = lines.find('\n') + 1;
    for (size_t end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const nlohmann::json line = nlohmann::json::parse(lines.substr(begin, end - begin));
      EXPECT_TRUE(names.emplace(line.at("draw").get<int64_t>(), line.at("sample").get<int64_t>()).second);
      EXPECT_EQ(line.at("version"), step - 1);
    }
  }
  EXPECT_EQ(names.size(), 20u * 24);
  EXPECT_EQ(names.rbegin()->first, 20 * 8 - 1);
}

// Starts the run and kills it, a little later each time, until one comes to its end.
void KillUntilDone(const GrpoRun& run, const std::vector<std::string>& overrides) {
  for (uint64_t start = 0;; ++start) {
    ASSERT_LT(start, 300u);
    Program program(run.folder(), run.TrainArguments(overrides));
    const uint64_t draw = core::Philox(core::RandomKey(5, core::RandomPurpose::kTest, 0), start, 0)[0];
    std::this_thread::sleep_for(std::chrono::microseconds(draw % 250000 + start * 3000 + start * start * 20));
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    if (outcome.code == 0) break;
    ASSERT_EQ(outcome.code, -SIGKILL) << outcome.err;
  }
}

TEST_F(Grpo, KilledAtAnyInstantAndResumedGivesTheSameBits) {
  const GrpoRun run;
  KillUntilDone(run, {});
  ExpectSame(run);
}

TEST_F(Grpo, OtherMicroBatchesAndDecodeBatchesChangeNothing) {
  const GrpoRun run;
  ASSERT_EQ(run.Train({"batch.micro_sequences=1", "rollout.decode_batch=3", "train.steps=10"}).code, 0);
  ASSERT_EQ(run.Train({"batch.micro_sequences=2", "rollout.decode_batch=100"}).code, 0);
  EXPECT_EQ(run.Hash(), whole_->Hash());
  EXPECT_EQ(run.Metrics(), whole_->Metrics());
}

TEST_F(Grpo, GoesOnFromTheRolloutsThatAreThere) {
  const GrpoRun run;
  ASSERT_EQ(run.Train({"train.steps=10"}).code, 0);
  // As if killed in the update of step 11, rewards and all.
  WriteFile(run.Dir() + "/rollouts/step_11.jsonl", whole_->Rollout(11));
  ASSERT_EQ(run.Train().code, 0);
  ExpectSame(run);
}

// ---- Programs as verifiers ----------------------------------------------------------------------------------------

struct Verifier {
  const char* program;
  double share;  // of samples on which it fails
};

std::string WriteVerifier(const GrpoRun& run, const std::string& body) {
  const std::string path = run.folder() / "verify.sh";
  WriteFile(path, "#!/bin/sh\n" + body);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

std::vector<std::string> WithVerifier(const std::string& path, const std::string& more) {
  return {"reward=[{name: random}, {name: program, command: [" + path + "], timeout_seconds: 1, max_failed: 1" + more +
              "}]",
          "train.steps=2", "grpo.kl.coefficient=0"};
}

TEST_F(Grpo, AVerifierThatFailsIsCountedAndTrainingGoesOn) {
  for (const char* body : {"sleep 100\n", "exit 3\n", "cat > /dev/null; printf '\\377\\n'\n", "kill -9 $$\n"}) {
    SCOPED_TRACE(body);
    const GrpoRun zero;
    const Outcome scored = zero.Train(WithVerifier(WriteVerifier(zero, body), ", on_error: zero"));
    ASSERT_EQ(scored.code, 0) << scored.err;
    EXPECT_EQ(LineOf(zero, 2).at("verifier_failed"), 24);
    EXPECT_EQ(LineOf(zero, 2).at("counted"), 1);
  }
  const GrpoRun mask;
  const Outcome masked = mask.Train(WithVerifier(WriteVerifier(mask, "exit 3\n"), ", on_error: mask"));
  ASSERT_EQ(masked.code, 0) << masked.err;
  EXPECT_EQ(LineOf(mask, 2).at("counted"), 0);
  EXPECT_EQ(LineOf(mask, 2).at("grad_norm"), 0);
}

TEST_F(Grpo, AVerifierThatFailsTooOftenEndsTheRun) {
  const GrpoRun run;
  std::vector<std::string> overrides = WithVerifier(WriteVerifier(run, "exit 3\n"), ", max_failed: 0.5");
  overrides[0].erase(overrides[0].find(", max_failed: 1"), 15);
  const Outcome outcome = run.Train(overrides);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("reward.1"), std::string::npos) << outcome.err;
}

// ---- The cache of latents -------------------------------------------------------------------------------------------

TEST_F(Grpo, WithACacheOfLatentsTheTrainerComputesLogProbabilitiesAnew) {
  const GrpoRun run;
  const Outcome outcome = run.Train({"rollout.cache=latent"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(
      outcome.out.find("cache      latent: 384 bytes per token of a sample (expanded: 640 bytes, 1.7 times as much)"),
      std::string::npos)
      << outcome.out;
  EXPECT_TRUE(LineOf(*whole_, 1).at("cache_difference").is_null());
  for (int step = 1; step <= GrpoRun::kSteps; ++step) {
    const nlohmann::json line = LineOf(run, step);
    EXPECT_TRUE(line.at("sampler_difference").is_null());
    EXPECT_GT(line.at("cache_difference"), 0);
    EXPECT_LT(line.at("cache_difference"), 1e-4);
    EXPECT_GT(line.at("grad_norm"), 0);
  }
  const GrpoRun parts;
  ASSERT_EQ(parts.Train({"rollout.cache=latent", "train.steps=10", "rollout.decode_batch=3"}).code, 0);
  WriteFile(parts.Dir() + "/rollouts/step_11.jsonl", run.Rollout(11));  // as if killed in the update of step 11
  ASSERT_EQ(parts.Train({"rollout.cache=latent", "batch.micro_sequences=2"}).code, 0);
  EXPECT_EQ(parts.Hash(), run.Hash());
  EXPECT_EQ(parts.Metrics(), run.Metrics());
  // A replay draws with what the run has drawn with.
  const Outcome replay = RunConclave(parts.folder(), {"replay", parts.Dir(), "--step", "17", "--sample", "3"});
  EXPECT_EQ(replay.code, 0) << replay.out << replay.err;
}

TEST_F(Grpo, RefusesACacheOfLatentsThatTheModelDoesNotHave) {
  const GrpoRun run;
  WriteFile(run.folder() / "config.yaml",
            "stage: grpo\n"
            "model: {model_type: qwen2, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 1,\n"
            "        num_attention_heads: 2, max_position_embeddings: 64}\n"
            "tasks: {name: addition, digits: 2}\n"
            "data: {max_prompt_tokens: 12, sequence_length: 40}\n"
            "rollout: {prompts: 8, group: 3, max_tokens: 10, cache: latent}\n"
            "reward: [{name: math}]\n"
            "run: {dir: \"" +
                run.Dir() + "\"}\n");
  const Outcome outcome = run.Train();
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("rollout.cache: latent keeps what multi-head latent attention expands, and a model of "
                             "type qwen2 has none; give expanded"),
            std::string::npos)
      << outcome.err;
}

TEST_F(Grpo, WeighsWhatACacheOfLatentsChanges) {
  const GrpoRun run;
  const Outcome outcome =
      run.Train({"rollout.cache=latent", "grpo={off_policy: {max_age: 1, correction: truncate}}", "train.steps=4"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_GT(LineOf(run, 3).at("cache_difference"), 0);
  EXPECT_TRUE(LineOf(run, 4).at("cache_difference").is_null()) << "the weights are others, too";
  EXPECT_TRUE(LineOf(run, 4).at("sampler_difference").is_null());
}

// ---- Variants -----------------------------------------------------------------------------------------------------

TEST_F(Grpo, EveryPresetTrains) {
  for (const char* preset : {"grpo", "dapo", "dr_grpo", "gspo", "cispo", "rloo", "reinforce_pp"}) {
    SCOPED_TRACE(preset);
    const GrpoRun run;
    const Outcome outcome = run.Train({"grpo={preset: " + std::string(preset) + ", passes: 2}", "train.steps=2"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const nlohmann::json line = LineOf(run, 2);
    // GSPO's bounds are so near that a second pass finds all tokens beyond them, or where that would do harm.
    if (preset != std::string("gspo")) {
      EXPECT_GT(line.at("grad_norm"), 0);
    }
    EXPECT_NE(line.at("ratio"), 1);
  }
}

TEST_F(Grpo, OldAndFilteredSamplesAreWeighed) {
  const GrpoRun old;
  ASSERT_EQ(old.Train({"grpo={off_policy: {max_age: 1, correction: truncate}}", "train.steps=4"}).code, 0);
  EXPECT_EQ(LineOf(old, 3).at("age"), 0);
  EXPECT_EQ(LineOf(old, 4).at("age"), 1);
  EXPECT_EQ(LineOf(old, 3).at("sampler_difference"), 0);
  EXPECT_TRUE(LineOf(old, 4).at("sampler_difference").is_null());
  const GrpoRun filtered;
  const Outcome outcome =
      filtered.Train({"rollout.top_k=5", "grpo={off_policy: {correction: truncate}}", "train.steps=2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(LineOf(filtered, 2).at("sampler_difference"), 0);
}

TEST_F(Grpo, TheReferenceFollowsTheModelAndAResumeFindsIt) {
  const std::vector<std::string> refresh = {"grpo={kl: {coefficient: 0.02, refresh: 3}}", "train.checkpoint_every=1",
                                            "train.keep=1", "train.steps=8"};
  const GrpoRun whole, run;
  const Outcome outcome = whole.Train(refresh);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(LineOf(whole, 1).at("reference_kl"), 0);
  EXPECT_GT(LineOf(whole, 3).at("reference_kl"), 0);
  EXPECT_LT(LineOf(whole, 4).at("reference_kl"), LineOf(whole, 3).at("reference_kl"));
  std::vector<std::string> part = refresh;
  part.back() = "train.steps=5";
  ASSERT_EQ(run.Train(part).code, 0);
  EXPECT_TRUE(std::filesystem::exists(run.Dir() + "/checkpoints/step_3")) << "what the reference is stays";
  EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/checkpoints/step_4"));
  ASSERT_EQ(run.Train(refresh).code, 0);
  EXPECT_EQ(run.Hash(), whole.Hash());
  EXPECT_EQ(run.Metrics(), whole.Metrics());
}

TEST_F(Grpo, GroupsWithoutSpreadAreCountedAndReplaced) {
  const GrpoRun all;
  ASSERT_EQ(all.Train({"reward=[{name: format}]", "grpo.kl.coefficient=0", "train.steps=1"}).code, 0);
  EXPECT_EQ(LineOf(all, 1).at("without_spread"), 1);
  EXPECT_EQ(LineOf(all, 1).at("grad_norm"), 0);
  const GrpoRun run;
  const Outcome outcome = run.Train({"grpo={dynamic_sampling: {enabled: true}}", "train.steps=2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_GT(LineOf(run, 1).at("rounds"), 1);
}

// ---- Router replay --------------------------------------------------------------------------------------------------

const std::vector<std::string> kReplay = {"grpo.router_replay=true", "grpo.passes=2", "train.steps=8"};

TEST_F(Grpo, RouterReplayHoldsTheLawsOfRestartsAndMicroBatches) {
  const GrpoRun whole, killed, small;
  const Outcome outcome = whole.Train(kReplay);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("choices of experts"), std::string::npos) << outcome.out;  // in the plan of memory
  for (int step = 1; step <= 8; ++step) {
    const nlohmann::json line = LineOf(whole, step);
    EXPECT_EQ(line.at("sampler_difference"), 0) << step;
    EXPECT_GT(line.at("router_flips"), 0) << step;
    EXPECT_LT(line.at("router_flips"), 1) << step;
  }
  KillUntilDone(killed, kReplay);
  std::vector<std::string> in_small_parts = kReplay;
  in_small_parts.push_back("batch.micro_sequences=1");
  ASSERT_EQ(small.Train(in_small_parts).code, 0);
  for (const GrpoRun* run : {&killed, &small}) {
    EXPECT_EQ(run->Hash(), whole.Hash());
    EXPECT_EQ(run->Metrics(), whole.Metrics());
  }
}

TEST_F(Grpo, RouterReplayKeepsRatiosNearerToOne) {
  // From the same weights and samples, the same first update. (Where single updates turn half of the choices, at ten
  // times these rates, what an expert has become matters more than which one it is.)
  for (const char* lr : {"optim.lr=3.0e-4", "optim.lr=1.0e-3"}) {
    std::vector<std::string> overrides = {"grpo={minibatches: 1, passes: 4, kl: {coefficient: 0}}", lr,
                                          "train.steps=1"};
    const GrpoRun free, replayed;
    ASSERT_EQ(free.Train(overrides).code, 0);
    overrides.push_back("grpo.router_replay=true");
    ASSERT_EQ(replayed.Train(overrides).code, 0);
    const std::string samples = replayed.Rollout(1), others = free.Rollout(1);
    EXPECT_EQ(samples.substr(samples.find('\n')), others.substr(others.find('\n')));  // behind the key of the run
    EXPECT_FALSE(LineOf(free, 1).contains("router_flips"));
    EXPECT_GT(LineOf(replayed, 1).at("router_flips"), 0.05) << lr;
    EXPECT_LT(LineOf(replayed, 1).at("kl"), LineOf(free, 1).at("kl")) << lr;
    EXPECT_LT(LineOf(replayed, 1).at("ratio_max"), LineOf(free, 1).at("ratio_max")) << lr;
  }
}

TEST_F(Grpo, RouterReplaySendsTheSecondMinibatchWhereTheWeightsBeforeTheFirstOneChoose) {
  const GrpoRun run;
  ASSERT_EQ(run.Train({"grpo.router_replay=true", "optim.lr=0.02", "train.steps=1"}).code, 0);
  EXPECT_EQ(LineOf(run, 1).at("updates"), 2);
  EXPECT_GT(LineOf(run, 1).at("router_flips"), 0.05);
}

TEST_F(Grpo, RouterReplayIsRefusedWithoutExperts) {
  const GrpoRun run;
  const Outcome outcome = run.Train({"grpo.router_replay=true", "model.first_k_dense_replace=4"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("grpo.router_replay: true needs a model with experts"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/metrics.jsonl"));
}

// ---- Bad input ----------------------------------------------------------------------------------------------------

TEST_F(Grpo, RefusesWhatCannotWork) {
  const struct {
    const char* override_text;
    const char* message;
  } cases[] = {
      {"data.max_prompt_tokens=4", "data.max_prompt_tokens"},
      {"data.chat_template=chatml", "chatml needs the token <|im_start|>"},
      {"data.prompts=[{path: nowhere.jsonl}]", "nowhere.jsonl"},
      {"data.validation=[{task: addition}]", "is trained on, too"},
      {"rollout.max_tokens=1000", "has no room for a prompt"},
      {"data.sequence_length=20", "data.sequence_length: 20 has no room"},
      {"rollout.cache=latents", "rollout.cache: latents is unknown; choose from expanded, latent"},
  };
  for (const auto& [override_text, message] : cases) {
    const GrpoRun run;
    const Outcome outcome = run.Train({override_text});
    EXPECT_NE(outcome.code, 0) << override_text;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << override_text << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/metrics.jsonl"));
  }
}

}  // namespace
}  // namespace conclave::launch
