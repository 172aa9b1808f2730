// SPDX-License-Identifier: Apache-2.0
// Policy losses of other programs: TRL's are ours, and a file that is wrong says how.
#include "launch/policy_reference.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

constexpr const char* kShared = CONCLAVE_SOURCE_DIR "/../shared";

TEST(VerifyPolicy, ComputesTheLossesAndGradientsOfTrl) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << kShared << " is not there: TRL's values are in it";
  const TemporaryFolder work;
  for (const auto& [model, variants] : {std::pair{"qwen3", 8}, {"deepseek_v3", 3}}) {
    const std::string folder = std::string(kShared) + "/fixtures/" + model;
    const std::vector<std::string> arguments = {"verify", folder, "--reference", folder + "/rl_reference.safetensors"};
    const Outcome outcome = RunConclave(work, arguments);
    EXPECT_EQ(outcome.code, 0) << model << "\n" << outcome.out << outcome.err;
    const std::string last = "all of " + std::to_string(variants) + " policy losses and their gradients within";
    EXPECT_NE(outcome.out.find(last), std::string::npos) << outcome.out;
    std::vector<std::string> strict = arguments;
    strict.insert(strict.end(), {"--tolerance", "1e-9"});
    EXPECT_EQ(RunConclave(work, strict).code, 1);
  }
}

// Two samples of a prompt of two tokens and up to three more.
struct Parts {
  std::vector<int64_t> prompts = {5, 6, 7, 8}, completions = {1, 2, 3, 4, 5, 6}, mask = {1, 1, 1, 1, 0, 0};
  std::vector<float> advantages = {1, -2}, old_log_probs = {-1, -2, -3, -4, -5, -6};
  std::map<std::string, std::string> metadata = {
      {"rl.grpo",
       R"({"loss": "grpo", "level": "token", "delta": null, "clip_low": 0.2, "clip_high": 0.3, "kl": 0.0})"}};
  int64_t tokens = 3;

  absl::StatusOr<PolicyReference> Open() const {
    const TemporaryFolder work;
    const std::string path = work / "reference.safetensors";
    using core::DType;
    const std::vector<core::SafetensorsWriteEntry> entries = {
        {"prompt_ids", {2, 2}, prompts.data(), DType::kI64, DType::kI64},
        {"completion_ids", {2, tokens}, completions.data(), DType::kI64, DType::kI64},
        {"completion_mask", {2, 3}, mask.data(), DType::kI64, DType::kI64},
        {"advantages", {2}, advantages.data(), DType::kF32, DType::kF32},
        {"old_logprobs", {2, 3}, old_log_probs.data(), DType::kF32, DType::kF32}};
    EXPECT_TRUE(core::WriteSafetensors(path, entries, metadata).ok());
    return PolicyReference::Open(path, 10);
  }
  std::string Error() const { return std::string(Open().status().message()); }
};

TEST(PolicyReference, ASampleIsARow) {
  const auto reference = Parts().Open();
  ASSERT_TRUE(reference.ok()) << reference.status();
  const core::Batch& batch = reference->batch;
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch.length, 5);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{5, 6, 1, 2, 3, 7, 8, 4, 0, 0}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 0, 1, 2, -1, -1}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{-1, 1, 2, 3, -1, -1, 4, -1, -1, -1}));
  EXPECT_EQ(batch.num_labels, 4);
  EXPECT_EQ(batch.policy->sequences, (std::vector<int32_t>{-1, 0, 0, 0, -1, -1, 1, -1, -1, -1}));
  EXPECT_EQ(batch.policy->old_log_probs, (std::vector<float>{0, -1, -2, -3, 0, 0, -4, 0, 0, 0}));
  EXPECT_EQ(batch.policy->advantages, (std::vector<float>{0, 1, 1, 1, 0, 0, -2, 0, 0, 0}));
  ASSERT_EQ(reference->variants.size(), 1u);
  const float third = 1.0f / 6;  // two samples, the first of three tokens
  EXPECT_EQ(reference->variants[0].weights, (std::vector<float>{0, third, third, third, 0, 0, 0.5f, 0, 0, 0}));
  EXPECT_EQ(reference->variants[0].rule.clip_high, 0.3);
}

TEST(PolicyReference, SaysWhatIsWrong) {
  const auto variant = [](const std::string& json) {
    Parts parts;
    parts.metadata = {{"rl.x", json}};
    return parts.Error();
  };
  Parts parts;
  parts.completions[2] = 10;
  EXPECT_NE(parts.Error().find("completion_ids has 10, the vocabulary is 10"), std::string::npos) << parts.Error();
  parts = {};
  parts.mask = {1, 0, 1, 1, 0, 0};
  EXPECT_NE(parts.Error().find("completion_mask of sample 0 is not ones, then zeros"), std::string::npos);
  parts = {};
  parts.mask.assign(6, 0);
  EXPECT_NE(parts.Error().find("hides every token"), std::string::npos);
  parts = {};
  parts.tokens = 2;
  EXPECT_NE(parts.Error().find("completion_mask and completion_ids differ in shape"), std::string::npos);
  parts = {};
  parts.metadata.clear();
  EXPECT_NE(parts.Error().find("describes no rl.<variant>"), std::string::npos) << parts.Error();
  EXPECT_NE(variant("{").find("metadata 'rl.x':1:2: not valid JSON"), std::string::npos) << variant("{");
  EXPECT_NE(variant("[]").find("is not a JSON object"), std::string::npos);
  EXPECT_NE(variant(R"({"loss": "grpo"})").find("clip_low, clip_high, kl must be numbers"), std::string::npos);
  const std::string numbers = R"("clip_low": 0.2, "clip_high": 0.2, )";
  EXPECT_NE(variant("{" + numbers + R"("kl": 0, "loss": "ppo"})").find("loss must be"), std::string::npos);
  EXPECT_NE(variant("{" + numbers + R"("kl": 0, "loss": "dr_grpo"})").find("max_length must be"), std::string::npos);
  EXPECT_NE(variant("{" + numbers + R"("kl": 0, "loss": "grpo", "delta": 1.1})").find("delta must be"),
            std::string::npos);
  EXPECT_NE(variant("{" + numbers + R"("kl": 1, "loss": "grpo"})").find("it has no ref_logprobs"), std::string::npos);
  EXPECT_NE(variant("{" + numbers + R"("kl": 0, "loss": "grpo", "level": 3})").find("level must be"),
            std::string::npos);
}

}  // namespace
}  // namespace conclave::launch
