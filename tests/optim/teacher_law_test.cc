// SPDX-License-Identifier: Apache-2.0
// The laws of training where a student learns a teacher's distributions: no layout, micro-batch or instruction set
// changes a bit, a student that is its teacher learns nothing, and one that learns on its own samples sees that they
// are.
#include <cmath>

#include "optim/log_probs.h"
#include "optim/teacher.h"
#include "tests/support/policy_batch.h"
#include "tests/support/small_layout_task.h"

namespace conclave {
namespace {

using Direction = core::DivergenceArgs::Direction;
using optim::LayoutChoice;
using optim::LayoutTask;
using optim::RunLayout;
using testing::RandomPolicyBatch;

constexpr float kTemperature = 0.8f;
constexpr uint64_t kTeacherSeed = 77;

enum class Samples { kOfTheTeacher, kOwn };

// A teacher that is wider, and of fewer blocks, which have fewer experts.
LayoutTask DistillTask(Direction direction, Samples samples, int64_t rows) {
  LayoutTask task = testing::SmallLayoutTask(rows, 2);
  task.temperature = kTemperature;
  task.config.moe.mtp_weight = 0;
  task.teacher = optim::TaskTeacher{.model = task.model, .initialize = {}, .direction = direction};
  core::ModelConfig& teacher = task.teacher->model;
  teacher.hidden_size = 28;
  teacher.num_hidden_layers = 9;
  teacher.n_routed_experts = 6;
  teacher.n_group = teacher.topk_group = 1;
  task.teacher->initialize = [](core::Model& model) {
    model.params().Initialize(model.kernels(), kTeacherSeed, 0.3);
    return absl::OkStatus();
  };
  if (samples == Samples::kOfTheTeacher) return task;
  task.config.stage = "grpo";
  task.config.grpo.kl.coefficient = 0.04;  // batches bring a reference
  task.batch = [rows](int64_t step) { return RandomPolicyBatch(rows, 8, 61, static_cast<uint64_t>(step)); };
  return task;
}

TEST(TeacherLaw, NoLayoutChangesABit) {
  for (const auto& [direction, samples] :
       {std::pair{Direction::kForward, Samples::kOfTheTeacher}, {Direction::kReverse, Samples::kOwn}}) {
    const LayoutTask task = DistillTask(direction, samples, 23);
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

// There the loss of a micro-batch is on the first rank or on the last.
TEST(TeacherLaw, HoldsForTwoCopiesOfStages) {
  const LayoutTask task = DistillTask(Direction::kReverse, Samples::kOfTheTeacher, 24);
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  LayoutChoice choice{.ranks = 4, .micro_rows = 2};
  choice.parallel.pipeline = 2;
  choice.parallel.schedule = "dualpipe";
  const auto outcome = RunLayout(task, choice);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->hash, one->hash);
  EXPECT_EQ(outcome->figures, one->figures);
  EXPECT_TRUE(outcome->memory_as_planned);
}

core::Config StudentConfig() {
  core::Config config = testing::TinyConfig();
  config.moe = {.bias_update_speed = 0, .balance_loss = 0, .mtp_weight = 0};
  config.optim.weight_decay = 0;
  return config;
}

core::Batch SomeBatch(uint64_t seed) { return testing::RandomBatch(8, 40, 97, seed); }

// Student and teacher of one architecture on one rank.
struct Pair {
  Pair(const core::Config& config, Direction direction, uint64_t teacher_seed, const std::string& target = "")
      : device(testing::MakeDevice(target, 2)), alone(parallel::MakeSelfComm()) {
    if (!device) return;
    model = testing::MakeTrainingModel(config, *device);
    teacher_model = testing::MakeTrainingModel(config, *device);
    teacher_model->params().Initialize(teacher_model->kernels(), teacher_seed, config.train.init_std);
    teacher_model->Refresh();
    auto made = parallel::Layout::Create(config, model->config(), {config.batch.sequences}, *alone, 1);
    EXPECT_TRUE(made.ok()) << made.status();
    layout = std::move(made).value();
    teacher = optim::Teacher::Create(*teacher_model, *layout, config.batch.sequences).value();
    trainer = optim::Trainer::Create(*model, config, *layout, config.model.hidden_size).value();
    trainer->SetTeacher({.direction = direction, .teacher_head = teacher->head()}, kTemperature, teacher->hidden());
  }
  optim::StepMetrics Step(const core::Batch& batch, int64_t step) {
    teacher->Compute(batch);
    return trainer->Step(batch, step);
  }
  std::unique_ptr<core::Device> device;
  std::unique_ptr<parallel::Comm> alone;
  std::unique_ptr<core::Model> model, teacher_model;
  std::unique_ptr<parallel::Layout> layout;
  std::unique_ptr<optim::Teacher> teacher;
  std::unique_ptr<optim::Trainer> trainer;
};

TEST(TeacherLaw, InstructionSetsNeverChangeABitInF32) {
  for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
    std::string first;
    for (const char* target : {"portable", "avx2", "avx512"}) {
      Pair pair(StudentConfig(), direction, kTeacherSeed, target);
      if (!pair.device) continue;
      pair.Step(SomeBatch(1), 1);
      const std::string hash = testing::HashState(*pair.model);
      if (first.empty()) first = hash;
      EXPECT_EQ(hash, first) << target;
    }
  }
}

TEST(Student, ThatIsItsTeacherLearnsNothing) {
  for (const char* precision : {"f32", "bf16"}) {
    for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
      core::Config config = StudentConfig();
      config.precision = precision;
      Pair pair(config, direction, static_cast<uint64_t>(config.train.seed));
      const std::string before = testing::HashState(*pair.model);
      const optim::StepMetrics metrics = pair.Step(SomeBatch(1), 1);
      EXPECT_TRUE(metrics.finite);
      EXPECT_EQ(metrics.teacher_kl, 0.0);
      EXPECT_EQ(metrics.total_loss, 0);
      EXPECT_EQ(metrics.grad_norm, 0);
      EXPECT_GT(metrics.loss, 1);
      EXPECT_EQ(testing::HashState(*pair.model), before);
    }
  }
}

TEST(Student, ComesCloserToItsTeacherWhateverTheLabelsSay) {
  for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
    Pair pair(StudentConfig(), direction, kTeacherSeed);
    const double first = pair.Step(SomeBatch(1), 1).teacher_kl.value();
    double last = first;
    for (int64_t step = 2; step <= 40; ++step)
      last = pair.Step(SomeBatch(static_cast<uint64_t>(step)), step).teacher_kl.value();
    EXPECT_GT(first, 0.1);
    EXPECT_LT(last, first / 2);
    EXPECT_TRUE(pair.trainer->MeasuredAsPlanned());
  }
}

// Promise 4 where a teacher judges: the log-probabilities of the update are those of the samples.
TEST(Student, SeesThatItsOwnSamplesAreItsOwn) {
  core::Config config = StudentConfig();
  config.stage = "grpo";
  config.grpo.kl.coefficient = 0.04;
  Pair pair(config, Direction::kReverse, kTeacherSeed);
  core::Batch batch = RandomPolicyBatch(8, 40, 97, 1);
  auto log_probs = optim::LogProbs::Create(*pair.model, *pair.layout, batch.rows);
  ASSERT_TRUE(log_probs.ok());
  (*log_probs)->Compute(batch, kTemperature, batch.policy->old_log_probs);
  batch.policy->pass = core::PolicyPass::kOnPolicy;
  const optim::StepMetrics metrics = pair.Step(batch, 1);
  ASSERT_TRUE(metrics.policy.has_value());
  EXPECT_GT(metrics.policy->tokens, 100);
  EXPECT_EQ(metrics.policy->differing_tokens, 0);
  EXPECT_GT(metrics.teacher_kl.value(), 0);
  EXPECT_EQ(metrics.total_loss, metrics.teacher_kl.value()) << "advantages have no part in it";
  EXPECT_TRUE(pair.trainer->MeasuredAsPlanned());
}

TEST(Student, AStepOfABrokenTeacherIsVoid) {
  Pair pair(StudentConfig(), Direction::kForward, kTeacherSeed);
  pair.teacher_model->params().Initialize(pair.teacher_model->kernels(), 1, NAN);
  pair.teacher_model->Refresh();
  const std::string before = testing::HashState(*pair.model);
  EXPECT_FALSE(pair.Step(SomeBatch(1), 1).finite);
  EXPECT_EQ(testing::HashState(*pair.model), before);
}

}  // namespace
}  // namespace conclave
