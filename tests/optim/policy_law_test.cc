// SPDX-License-Identifier: Apache-2.0
// The laws of training where a policy learns: no layout, micro-batch, thread or instruction set changes a bit, and a
// policy that learns from its own samples sees that they are its own.
#include <algorithm>
#include <cmath>

#include "optim/log_probs.h"
#include "tests/support/policy_batch.h"
#include "tests/support/small_layout_task.h"

namespace conclave {
namespace {

using core::PolicyPass;
using core::PolicyRule;
using optim::LayoutChoice;
using optim::LayoutTask;
using optim::RunLayout;
using testing::RandomPolicyBatch;

constexpr float kPolicyTemperature = 0.8f;

std::vector<PolicyRule> SomeRules() {
  return {{.dual = 1.5, .kl = 0.04},
          {.ratio = PolicyRule::Ratio::kSequence, .clip_low = 0.03, .clip_high = 0.04},
          {.cap = 1.2, .kl = 0.1, .estimator = PolicyRule::Kl::kK2}};
}

LayoutTask PolicyTask(const PolicyRule& rule, int64_t rows, int64_t steps) {
  LayoutTask task = testing::SmallLayoutTask(rows, steps);
  task.config.stage = "grpo";
  task.config.grpo.kl.coefficient = 0.04;  // batches bring a reference
  task.rule = rule;
  task.temperature = kPolicyTemperature;
  task.batch = [rows](int64_t step) { return RandomPolicyBatch(rows, 8, 61, static_cast<uint64_t>(step)); };
  return task;
}

TEST(PolicyLaw, NoLayoutChangesABit) {
  for (const PolicyRule& rule : SomeRules()) {
    const LayoutTask task = PolicyTask(rule, 23, 2);
    const auto one = RunLayout(task, {});
    ASSERT_TRUE(one.ok()) << one.status();
    for (const auto& [ranks, pipeline, expert, schedule] : {std::tuple{1, 1, 1, "1f1b"},
                                                            {2, 1, 2, "1f1b"},
                                                            {2, 2, 1, "dualpipev"},
                                                            {4, 2, 2, "zb1p"},
                                                            {3, 3, 1, "zbv"},
                                                            {4, 1, 4, "1f1b"}}) {
      LayoutChoice choice{.ranks = ranks, .threads = 2, .micro_rows = ranks == 1 ? 3 : 1};
      choice.parallel.pipeline = pipeline;
      choice.parallel.expert = expert;
      choice.parallel.schedule = schedule;
      const auto outcome = RunLayout(task, choice);
      ASSERT_TRUE(outcome.ok()) << choice.Text() << ": " << outcome.status();
      EXPECT_EQ(outcome->hash, one->hash) << choice.Text();
      EXPECT_EQ(outcome->figures, one->figures) << choice.Text();
      EXPECT_TRUE(outcome->memory_as_planned) << choice.Text();
    }
  }
}

TEST(PolicyLaw, HoldsForTwoCopiesOfStages) {
  const LayoutTask task = PolicyTask(SomeRules()[0], 24, 2);
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  LayoutChoice choice{.ranks = 2, .micro_rows = 2};
  choice.parallel.pipeline = 2;
  choice.parallel.schedule = "dualpipe";
  const auto outcome = RunLayout(task, choice);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->hash, one->hash);
  EXPECT_EQ(outcome->figures, one->figures);
  EXPECT_TRUE(outcome->memory_as_planned);
}

// A trainer of one rank, and what it makes of a batch.
struct Learner {
  explicit Learner(const core::Config& config, const PolicyRule& rule, const std::string& target = "")
      : device(testing::MakeDevice(target, 2)) {
    if (!device) return;
    model = testing::MakeTrainingModel(config, *device);
    auto made = optim::Trainer::Create(*model, config);
    EXPECT_TRUE(made.ok()) << made.status();
    trainer = std::move(made).value();
    trainer->SetPolicy(rule, kPolicyTemperature);
  }
  std::unique_ptr<core::Device> device;
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Trainer> trainer;
};

core::Config PolicyConfig() {
  core::Config config = testing::TinyConfig();
  config.stage = "grpo";
  config.grpo.kl.coefficient = 0.04;
  config.moe.mtp_weight = 0;
  return config;
}

core::Batch TinyPolicyBatch(uint64_t seed) { return RandomPolicyBatch(8, 40, 97, seed); }

std::vector<float> LogProbsOf(core::Model& model, const core::Config& config, const core::Batch& batch) {
  const std::unique_ptr<parallel::Comm> alone = parallel::MakeSelfComm();
  auto layout = parallel::Layout::Create(config, model.config(), {batch.rows}, *alone, 1);
  EXPECT_TRUE(layout.ok()) << layout.status();
  auto log_probs = optim::LogProbs::Create(model, **layout, batch.rows);
  EXPECT_TRUE(log_probs.ok()) << log_probs.status();
  std::vector<float> out(batch.tokens.size(), NAN);
  (*log_probs)->Compute(batch, kPolicyTemperature, out);
  return out;
}

TEST(PolicyLaw, InstructionSetsNeverChangeABitInF32) {
  for (const PolicyRule& rule : SomeRules()) {
    std::string first;
    for (const char* target : {"portable", "avx2", "avx512"}) {
      Learner learner(PolicyConfig(), rule, target);
      if (!learner.device) continue;
      learner.trainer->Step(TinyPolicyBatch(1), 1);
      const std::string hash = testing::HashState(*learner.model);
      if (first.empty()) first = hash;
      EXPECT_EQ(hash, first) << target;
    }
  }
}

// Promise 4, as a step sees it.
TEST(Policy, SeesThatItsOwnSamplesAreItsOwn) {
  for (const char* precision : {"f32", "bf16"}) {
    for (const PolicyRule& rule : SomeRules()) {
      core::Config config = PolicyConfig();
      config.precision = precision;
      std::vector<std::string> hashes;
      std::vector<double> losses;
      for (const PolicyPass pass : {PolicyPass::kOnPolicy, PolicyPass::kOffPolicy}) {
        Learner learner(config, rule);
        core::Batch batch = TinyPolicyBatch(1);
        batch.policy->old_log_probs = LogProbsOf(*learner.model, config, batch);
        batch.policy->pass = pass;
        const optim::StepMetrics metrics = learner.trainer->Step(batch, 1);
        ASSERT_TRUE(metrics.policy.has_value());
        EXPECT_GT(metrics.policy->tokens, 100);
        EXPECT_EQ(metrics.policy->differing_tokens, 0);
        EXPECT_EQ(metrics.policy->largest_difference, 0);
        EXPECT_EQ(metrics.policy->ratio, 1);
        EXPECT_EQ(metrics.policy->kl, 0);
        EXPECT_GT(metrics.policy->reference_kl, 0);
        EXPECT_TRUE(learner.trainer->MeasuredAsPlanned());
        hashes.push_back(testing::HashState(*learner.model));
        losses.push_back(metrics.policy->loss);
      }
      EXPECT_EQ(hashes[0], hashes[1]);
      EXPECT_EQ(losses[0], losses[1]);
    }
  }
}

TEST(Policy, ReportsSamplesThatAreNotItsOwn) {
  Learner learner(PolicyConfig(), {});
  core::Batch batch = TinyPolicyBatch(1);
  batch.policy->old_log_probs = LogProbsOf(*learner.model, PolicyConfig(), batch);
  const auto learned = std::find_if(batch.policy->sequences.begin(), batch.policy->sequences.end(),
                                    [](int32_t sequence) { return sequence >= 0; });
  float& one = batch.policy->old_log_probs[static_cast<size_t>(learned - batch.policy->sequences.begin())];
  one = std::nextafter(one, 0.0f);
  batch.policy->pass = PolicyPass::kOnPolicy;
  const optim::StepMetrics metrics = learner.trainer->Step(batch, 1);
  EXPECT_EQ(metrics.policy->differing_tokens, 1);
  EXPECT_GT(metrics.policy->largest_difference, 0);
  EXPECT_LT(metrics.policy->largest_difference, 1e-6);
}

TEST(Policy, LearnsNothingFromResponsesWithoutAdvantage) {
  core::Config config = PolicyConfig();
  config.optim.weight_decay = 0;
  config.moe.bias_update_speed = config.moe.balance_loss = 0;
  Learner learner(config, {});
  const std::string before = testing::HashState(*learner.model);
  core::Batch batch = TinyPolicyBatch(1);
  std::fill(batch.policy->advantages.begin(), batch.policy->advantages.end(), 0.0f);
  const optim::StepMetrics metrics = learner.trainer->Step(batch, 1);
  EXPECT_TRUE(metrics.finite);
  EXPECT_EQ(metrics.grad_norm, 0);
  EXPECT_EQ(metrics.policy->loss, 0);
  EXPECT_EQ(testing::HashState(*learner.model), before);
}

TEST(Policy, AStepWithABrokenAdvantageIsVoid) {
  Learner learner(PolicyConfig(), {});
  const std::string before = testing::HashState(*learner.model);
  core::Batch batch = TinyPolicyBatch(1);
  std::fill(batch.policy->advantages.begin(), batch.policy->advantages.end(), NAN);
  EXPECT_FALSE(learner.trainer->Step(batch, 1).finite);
  EXPECT_EQ(testing::HashState(*learner.model), before);
}

}  // namespace
}  // namespace conclave
