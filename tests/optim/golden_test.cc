// SPDX-License-Identifier: Apache-2.0
// Twenty losses and the final state of two runs in f32, to the last bit: the machine law makes them the same everywhere. A commit
// that says "no numeric change" does not touch tests/golden/losses.txt; one that does rewrites it with
// CONCLAVE_UPDATE_GOLDEN=1 build/release/tests/optim_test --gtest_filter='Golden*' and says why.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"

#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

constexpr char kPath[] = CONCLAVE_SOURCE_DIR "/tests/golden/losses.txt";

core::Config QwenConfig() {
  core::Config config = testing::TinyConfig();
  config.model = {};
  config.model.model_type = "qwen2";
  config.model.vocab_size = 97;
  config.model.hidden_size = 48;
  config.model.intermediate_size = 80;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 4;
  config.model.num_key_value_heads = 2;
  config.model.tie_word_embeddings = true;
  return config;
}

std::string TrainAndPrint(const std::string& name, const core::Config& config) {
  testing::TrainingSetup setup;
  setup.config = config;
  setup.config.optim.schedule = {.name = "cosine", .warmup_steps = 4};
  setup.config.train.steps = 20;
  setup.steps = 20;
  const testing::TrainedState state = testing::Train(setup);
  std::string text;
  for (size_t step = 0; step < 20; ++step) {
    absl::StrAppendFormat(&text, "%s step %d loss %.17g norm %.17g\n", name, step + 1, state.figures[6 * step],
                          state.figures[6 * step + 4]);
  }
  absl::StrAppendFormat(&text, "%s state %s\n", name, state.hash);
  return text;
}

TEST(GoldenLosses, AreTheSameBitsOnEveryMachine) {
  std::string text;
  for (const auto& [name, config] : {std::pair{"deepseek_v3", testing::TinyConfig()}, std::pair{"qwen2", QwenConfig()}}) {
    text += TrainAndPrint(name, config);
  }
  if (std::getenv("CONCLAVE_UPDATE_GOLDEN")) {
    std::ofstream(kPath) << text;
    GTEST_SKIP() << "wrote " << kPath;
  }
  std::ifstream file(kPath);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(text, golden.str());
}

}  // namespace
}  // namespace conclave
