// SPDX-License-Identifier: Apache-2.0
// Decoding with a cache computes the logits of a full forward pass, bit for bit, whoever else is in the batch; and a
// document's log-probabilities do not depend on where it was packed.
#include <cstring>
#include <span>

#include "core/model/decoder.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

core::Config FamilyConfig(const std::string& family, const std::string& precision) {
  core::Config config = testing::TinyConfig();
  config.precision = precision;
  config.model.model_type = family;
  if (family != "deepseek_v3") {
    config.model.num_attention_heads = 4;
    config.model.num_key_value_heads = 2;
    config.model.head_dim = 12;
    config.model.num_nextn_predict_layers = 0;
    config.model.n_group = config.model.topk_group = 1;
    config.model.n_shared_experts = 0;
    if (family != "qwen3_moe") config.model.n_routed_experts = 0;
    config.model.first_k_dense_replace = 0;
  }
  return config;
}

struct Case {
  std::string family, precision;
};

class DecodeLaw : public ::testing::TestWithParam<Case> {};

std::vector<float> FullLogits(core::Model& model, const std::vector<int32_t>& tokens) {
  const int64_t length = static_cast<int64_t>(tokens.size()), vocabulary = model.config().vocab_size;
  core::Batch batch{.rows = 1, .length = length, .tokens = tokens};
  for (int64_t s = 0; s < length; ++s) batch.positions.push_back(static_cast<int32_t>(s));
  batch.labels.assign(length, -1);
  const core::PassShape shape{core::PassMode::kForwardOnly, 1, length, false};
  auto runner = core::PassRunner::Create(model, {shape});
  EXPECT_TRUE(runner.ok());
  (*runner)->Begin(batch, 0, shape);
  model.stage().ForwardBody((*runner)->lane(), (*runner)->pass(), {}, {}, (*runner)->saved());
  std::vector<float> logits(length * vocabulary);
  model.stage().loss_unit().Logits((*runner)->lane(), (*runner)->saved().loss.normed,
                                   core::Tensor(logits.data(), core::DType::kF32, {length, vocabulary}));
  return logits;
}

std::vector<int32_t> RandomTokens(int64_t length, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t s = 0; s < length; ++s) tokens.push_back(static_cast<int32_t>(core::Philox(seed, s, 7)[0] % 97));
  return tokens;
}

TEST_P(DecodeLaw, CachedLogitsAreThoseOfAFullForward) {
  core::Config config = FamilyConfig(GetParam().family, GetParam().precision);
  config.data.sequence_length = 160;  // more than one block of keys
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  // Three sequences: a long prompt, a short one, and one that starts later.
  const std::vector<std::vector<int32_t>> sequences = {RandomTokens(150, 1), RandomTokens(70, 2), RandomTokens(41, 3)};
  const size_t prompt[] = {130, 1, 0};
  std::vector<std::vector<float>> full;
  for (const auto& tokens : sequences) full.push_back(FullLogits(*model, tokens));

  auto decoder = core::Decoder::Create(*model, 3, 160);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  std::vector<size_t> done(3, 0);
  for (int b = 0; b < 3; ++b) {
    (*decoder)->Read(b, std::span(sequences[b]).first(prompt[b]));
    done[b] = prompt[b];
  }
  for (int round = 0; done[1] < 70; ++round) {
    std::vector<int32_t> next(3, -1);
    for (int b = 0; b < 3; ++b) {
      const bool waits = b == 2 && round < 5;
      if (!waits && done[b] < sequences[b].size()) next[b] = sequences[b][done[b]++];
    }
    (*decoder)->Step(next);
    for (int b = 0; b < 3; ++b) {
      if (next[b] < 0) continue;
      ASSERT_EQ(std::memcmp((*decoder)->logits().As<float>() + b * 97, full[b].data() + (done[b] - 1) * 97, 97 * 4), 0)
          << "sequence " << b << ", token " << done[b];
    }
  }
}

TEST_P(DecodeLaw, ACopyGoesOnAsItsOriginal) {
  auto device = testing::MakeDevice("", 2);
  core::Config config = FamilyConfig(GetParam().family, GetParam().precision);
  config.data.sequence_length = 100;
  auto model = testing::MakeTrainingModel(config, *device);
  const std::vector<int32_t> tokens = RandomTokens(100, 1), other = RandomTokens(80, 2);
  const std::vector<float> full = FullLogits(*model, tokens);
  auto decoder = core::Decoder::Create(*model, 3, 100);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  (*decoder)->Read(0, other);  // what the copy replaces, longer and not
  (*decoder)->Read(1, std::span(tokens).first(70));
  (*decoder)->Read(2, std::span(other).first(5));
  (*decoder)->Copy(1, 0);
  (*decoder)->Copy(1, 2);
  for (size_t s = 70; s < 100; ++s) {
    (*decoder)->Step(std::vector<int32_t>(3, tokens[s]));
    for (int b = 0; b < 3; ++b) {
      ASSERT_EQ(std::memcmp((*decoder)->logits().As<float>() + b * 97, full.data() + s * 97, 97 * 4), 0)
          << "sequence " << b << ", token " << s;
    }
  }
}

TEST_P(DecodeLaw, LogProbabilitiesDoNotDependOnThePacking) {
  core::Config config = FamilyConfig(GetParam().family, GetParam().precision);
  config.data.sequence_length = 128;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  const std::vector<int32_t> document = RandomTokens(50, 4);
  auto log_probs_at = [&](int64_t rows, int64_t row, int64_t offset) {
    core::Batch batch = testing::RandomBatch(rows, 128, 97, static_cast<uint64_t>(offset + rows));
    for (int64_t s = 0; s < 128; ++s) {  // whatever surrounds it starts documents of its own
      int32_t& position = batch.positions[row * 128 + s];
      if (s < offset) position = static_cast<int32_t>(s);
      if (s >= offset && s < offset + 50) {
        batch.tokens[row * 128 + s] = document[s - offset];
        position = static_cast<int32_t>(s - offset);
        batch.labels[row * 128 + s] = s - offset < 49 ? document[s - offset + 1] : -1;
      }
      if (s >= offset + 50) position = static_cast<int32_t>(s - offset - 50);
    }
    const core::PassShape shape{core::PassMode::kForwardOnly, rows, 128, false};
    auto runner = core::PassRunner::Create(*model, {shape});
    EXPECT_TRUE(runner.ok());
    (*runner)->Begin(batch, 0, shape);
    std::vector<double> loss(rows), z(rows);
    std::vector<float> log_probs(rows * 128);
    const core::StepStatistics statistics{.loss = core::Tensor(loss.data(), core::DType::kF64, {1, rows}),
                                          .z_sum = core::Tensor(z.data(), core::DType::kF64, {1, rows}),
                                          .balance_loss = {},
                                          .load = {},
                                          .log_probs = core::Tensor(log_probs.data(), core::DType::kF32, {rows, 128})};
    model->stage().Forward((*runner)->lane(), (*runner)->pass(), {}, statistics, (*runner)->saved());
    return std::vector<float>(log_probs.begin() + row * 128 + offset, log_probs.begin() + row * 128 + offset + 50);
  };
  const std::vector<float> alone = log_probs_at(1, 0, 0);
  EXPECT_NE(alone[3], 0.0f);
  EXPECT_EQ(log_probs_at(1, 0, 37), alone);
  EXPECT_EQ(log_probs_at(1, 0, 78), alone);
  EXPECT_EQ(log_probs_at(4, 2, 13), alone);
}

INSTANTIATE_TEST_SUITE_P(Families, DecodeLaw,
                         ::testing::Values(Case{"deepseek_v3", "f32"}, Case{"deepseek_v3", "bf16"},
                                           Case{"qwen2", "f32"}, Case{"qwen3", "bf16"}, Case{"qwen3_moe", "f32"},
                                           Case{"llama", "f32"}),
                         [](const auto& info) { return info.param.family + "_" + info.param.precision; });

// ---- The cache of latents -------------------------------------------------------------------------------------------

core::Config LatentConfig(const std::string& precision) {
  core::Config config = FamilyConfig("deepseek_v3", precision);
  config.rollout.cache = "latent";
  config.data.sequence_length = 160;  // more than one block of keys
  return config;
}

class LatentDecoding : public ::testing::TestWithParam<std::string> {};

TEST_P(LatentDecoding, LogitsAreNearThoseOfAFullForward) {
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(LatentConfig(GetParam()), *device);
  const std::vector<int32_t> tokens = RandomTokens(150, 1);
  const std::vector<float> full = FullLogits(*model, tokens);
  auto decoder = core::Decoder::Create(*model, 1, 160);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  (*decoder)->Read(0, std::span(tokens).first(90));
  double largest = 0, magnitude = 0;
  for (size_t s = 90; s < tokens.size(); ++s) {
    (*decoder)->Step({&tokens[s], 1});
    for (size_t i = 0; i < 97; ++i) {
      const float here = (*decoder)->logits().As<float>()[i], there = full[s * 97 + i];
      largest = std::max<double>(largest, std::abs(here - there));
      magnitude = std::max<double>(magnitude, std::abs(there));
    }
  }
  EXPECT_GT(largest, 0) << "the cache is not one of latents";
  EXPECT_LT(largest / magnitude, GetParam() == "f32" ? 1e-5 : 0.1);
}

TEST_P(LatentDecoding, DependsNeitherOnThePiecesOfThePromptNorOnTheCompany) {
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(LatentConfig(GetParam()), *device);
  const std::vector<int32_t> tokens = RandomTokens(150, 1), other = RandomTokens(150, 2);
  auto alone = core::Decoder::Create(*model, 1, 160), together = core::Decoder::Create(*model, 3, 160);
  ASSERT_TRUE(alone.ok() && together.ok());
  (*alone)->Read(0, std::span(tokens).first(120));
  for (size_t s = 0; s < 10; ++s) (*together)->Step(std::vector<int32_t>{other[s], tokens[s], -1});
  (*together)->Read(1, std::span(tokens).subspan(10, 7));
  (*together)->Read(1, std::span(tokens).subspan(17, 103));
  (*together)->Copy(1, 2);
  for (size_t s = 120; s < tokens.size(); ++s) {
    (*alone)->Step({&tokens[s], 1});
    (*together)->Step(std::vector<int32_t>{other[s], tokens[s], tokens[s]});
    for (int b : {1, 2}) {
      ASSERT_EQ(std::memcmp((*together)->logits().As<float>() + b * 97, (*alone)->logits().data, 97 * 4), 0)
          << "sequence " << b << ", token " << s;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, LatentDecoding, ::testing::Values("f32", "bf16"));

}  // namespace
}  // namespace conclave
