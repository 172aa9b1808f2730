// SPDX-License-Identifier: Apache-2.0
// The sampler law: a sample depends on nothing but its name and the weights, in any layout and any company, and the
// log-probabilities that it was drawn with are those of the trainer's forward pass, bit for bit.
#include "rl/generator.h"

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave::rl {
namespace {

constexpr int64_t kMaxTokens = 12;
constexpr int64_t kMaxPrompt = 40;
constexpr int32_t kEnd = 5;

core::Config RolloutConfigOf(const std::string& precision, const std::string& cache = "expanded") {
  core::Config config = testing::TinyConfig();
  config.rollout.cache = cache;
  config.model.num_hidden_layers = 6;
  config.moe = {.bias_update_speed = 0, .balance_loss = 0, .mtp_weight = 0};
  config.precision = precision;
  config.data.sequence_length = kMaxPrompt + kMaxTokens;
  config.batch.sequences = 16;
  config.batch.micro_sequences = 1;
  return config;
}

std::vector<Request> Requests() {
  std::vector<Request> requests;
  for (int64_t draw = 0; draw < 11; ++draw) {
    Request& request = requests.emplace_back(Request{.draw = draw, .samples = 1 + draw % 4});
    const int64_t length = draw == 7 ? kMaxPrompt : 1 + draw * 5 % 17;
    for (int64_t i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<int32_t>(core::Philox(9, draw, i)[0] % 97));
    }
  }
  return requests;
}

bool HasEnded(const Completion& completion, Ending& ending) {
  if (completion.tokens.back() == kEnd) {
    ending = Ending::kEndToken;
    return true;
  }
  return static_cast<int64_t>(completion.tokens.size()) == kMaxTokens;
}

std::string Text(const Completion& completion) {
  std::string text =
      absl::StrFormat("%d.%d %d:", completion.draw, completion.sample, static_cast<int>(completion.ending));
  for (size_t i = 0; i < completion.tokens.size(); ++i) {
    text += absl::StrFormat(" %d/%a", completion.tokens[i], completion.log_probs[i]);
  }
  return text;
}

struct Setup {
  core::Config config;
  int ranks = 1;
  int64_t decode_slots = 8;
};

using Texts = std::map<std::pair<int64_t, int64_t>, std::string>;

// All completions over all data ranks; on every pipeline rank they are the same.
Texts Sample(const Setup& setup, const std::vector<Request>& requests) {
  Texts texts;
  std::mutex mutex;
  parallel::test::RunRanks(setup.ranks, [&](parallel::Comm& world) {
    const core::Config& config = setup.config;
    auto device = core::CreateDevice({.num_threads = 1});
    auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), world, 1);
    ASSERT_TRUE(layout.ok()) << layout.status();
    core::Model::Options options{.precision = config.ComputePrecision(),
                                 .purpose = core::ParamSet::Purpose::kTraining,
                                 .cache = testing::CacheOf(config),
                                 .max_positions = config.data.sequence_length};
    (*layout)->Describe(options);
    auto model = core::Model::Create(config.model, **device, options);
    ASSERT_TRUE(model.ok()) << model.status();
    (*model)->params().Initialize((*model)->kernels(), 3, config.train.init_std);
    auto trainer = optim::Trainer::Create(**model, config, **layout);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    (*trainer)->Refresh();
    auto generator = Generator::Create(**model, **layout,
                                       {.seed = 4,
                                        .decode_slots = setup.decode_slots,
                                        .max_prompt_tokens = kMaxPrompt,
                                        .max_tokens = kMaxTokens,
                                        .max_samples = 4});
    ASSERT_TRUE(generator.ok()) << generator.status();
    const size_t data = (*layout)->place().data, ranks = (*layout)->mesh().shape().data;
    for (int round = 0; round < 2; ++round) {  // nothing is left over from the round before
      std::vector<Request> mine(requests.begin() + requests.size() * data / ranks,
                                requests.begin() + requests.size() * (data + 1) / ranks);
      const std::vector<Completion> completions = (*generator)->Generate(std::move(mine), HasEnded);
      const std::lock_guard lock(mutex);
      for (const Completion& completion : completions) {
        const auto [entry, is_new] = texts.insert({{completion.draw, completion.sample}, Text(completion)});
        EXPECT_TRUE(is_new || entry->second == Text(completion)) << entry->second << "\n" << Text(completion);
      }
    }
  });
  return texts;
}

// Log-probabilities of a completion by one forward pass over prompt and completion.
std::vector<float> ForwardLogProbs(core::Model& model, const Request& request, const Completion& completion) {
  core::Batch batch{.rows = 1, .length = static_cast<int64_t>(request.prompt.size() + completion.tokens.size())};
  batch.tokens = request.prompt;
  batch.tokens.insert(batch.tokens.end(), completion.tokens.begin(), completion.tokens.end());
  for (int64_t s = 0; s < batch.length; ++s) {
    batch.positions.push_back(static_cast<int32_t>(s));
    batch.labels.push_back(s + 1 < batch.length ? batch.tokens[s + 1] : -1);
  }
  const core::PassShape shape{core::PassMode::kForwardOnly, 1, batch.length, false};
  auto runner = core::PassRunner::Create(model, {shape});
  EXPECT_TRUE(runner.ok());
  (*runner)->Begin(batch, 0, shape);
  std::vector<double> loss(1);
  std::vector<float> log_probs(batch.length);
  const core::StepStatistics statistics{
      .loss = core::Tensor(loss.data(), core::DType::kF64, {1, 1}),
      .log_probs = core::Tensor(log_probs.data(), core::DType::kF32, {1, batch.length})};
  model.stage().Forward((*runner)->lane(), (*runner)->pass(), {}, statistics, (*runner)->saved());
  return {log_probs.begin() + static_cast<int64_t>(request.prompt.size()) - 1, log_probs.end() - 1};
}

class SamplerLaw : public ::testing::TestWithParam<std::string> {};

TEST_P(SamplerLaw, LogProbabilitiesAreThoseOfTheTrainersForward) {
  const core::Config config = RolloutConfigOf(GetParam());
  auto device = core::CreateDevice({.num_threads = 2});
  auto model = testing::MakeTrainingModel(config, **device);
  const auto comm = parallel::MakeSelfComm();
  auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), *comm, 1);
  ASSERT_TRUE(layout.ok()) << layout.status();
  auto generator = Generator::Create(
      *model, **layout,
      {.seed = 4, .decode_slots = 8, .max_prompt_tokens = kMaxPrompt, .max_tokens = kMaxTokens, .max_samples = 4});
  ASSERT_TRUE(generator.ok()) << generator.status();
  const std::vector<Request> requests = Requests();
  const std::vector<Completion> completions = (*generator)->Generate(requests, HasEnded);
  size_t next = 0, ended = 0;
  for (const Request& request : requests) {
    for (int64_t sample = 0; sample < request.samples; ++sample) {
      const Completion& completion = completions.at(next++);
      ASSERT_EQ(completion.draw, request.draw);
      ASSERT_EQ(completion.sample, sample);
      ended += completion.ending == Ending::kEndToken;
      const std::vector<float> expected = ForwardLogProbs(*model, request, completion);
      ASSERT_EQ(expected.size(), completion.log_probs.size());
      EXPECT_EQ(std::memcmp(expected.data(), completion.log_probs.data(), expected.size() * sizeof(float)), 0)
          << Text(completion);
    }
  }
  EXPECT_EQ(next, completions.size());
  EXPECT_GT(ended, 0u);
  EXPECT_LT(ended, completions.size());
}

INSTANTIATE_TEST_SUITE_P(Precisions, SamplerLaw, ::testing::Values("f32", "bf16"));

struct Cache {
  std::string precision, cache;
};

class AnyCache : public ::testing::TestWithParam<Cache> {};

TEST_P(AnyCache, NoLayoutAndNoCompanyChangesASample) {
  const core::Config config = RolloutConfigOf(GetParam().precision, GetParam().cache);
  const std::vector<Request> requests = Requests();
  const Texts expected = Sample({config, 1, 8}, requests);
  ASSERT_EQ(expected.size(), 26u);
  EXPECT_EQ(Sample({config, 1, 1}, requests), expected);
  EXPECT_EQ(Sample({config, 1, 100}, requests), expected);
  std::vector<Request> apart;  // every sample reads its prompt itself
  for (const Request& request : requests) {
    for (int64_t sample = 0; sample < request.samples; ++sample) {
      apart.push_back({request.draw, sample, 1, request.prompt});
    }
  }
  EXPECT_EQ(Sample({config, 1, 8}, apart), expected);
  struct Case {
    int ranks, pipeline, expert;
    const char* schedule;
    int per_node = 0;
  };
  for (const Case& c : {Case{2, 1, 1, ""}, Case{2, 1, 2, ""}, Case{2, 2, 1, "1f1b"}, Case{2, 2, 1, "dualpipev"},
                        Case{2, 2, 1, "dualpipe"}, Case{4, 2, 2, "zbv"}, Case{4, 1, 4, ""}, Case{4, 1, 4, "", 2},
                        Case{4, 2, 2, "interleaved"}, Case{3, 3, 1, "1f1b"}, Case{4, 2, 1, "zb1p"}}) {
    core::Config here = config;
    here.parallel.pipeline = c.pipeline;
    here.parallel.expert = c.expert;
    here.parallel.schedule = c.schedule;
    here.parallel.ranks_per_node = c.per_node;
    if (c.schedule == std::string("interleaved")) here.parallel.virtual_stages = 2;
    EXPECT_EQ(Sample({here, c.ranks, 8}, requests), expected)
        << c.ranks << " ranks, pipeline " << c.pipeline << ", expert " << c.expert << ", " << c.schedule;
  }
}

INSTANTIATE_TEST_SUITE_P(Caches, AnyCache,
                         ::testing::Values(Cache{"f32", "expanded"}, Cache{"bf16", "expanded"}, Cache{"f32", "latent"},
                                           Cache{"bf16", "latent"}),
                         [](const auto& info) { return info.param.precision + "_" + info.param.cache; });

TEST(DrawId, NamesEachDrawOfARun) {
  EXPECT_EQ(DrawId(0, 0, 1), 1);
  EXPECT_EQ(DrawId(0, 1, 0), 1 << 20);
  EXPECT_EQ(DrawId(1, 0, 0), int64_t{1} << 32);
}

}  // namespace
}  // namespace conclave::rl
