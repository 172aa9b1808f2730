// SPDX-License-Identifier: Apache-2.0
// exactness_bench CONFIG [KEY=VALUE ...]: what exact sums cost, in whole training steps. Two trainers of the same
// config, one with exact sums, one with float sums, take turns at one step each, so that both see the same machine: the
// share is the median of what the rounds say, 11 after one to warm up. On a busy machine the CPU time of one thread
// (under `taskset -c 0`) tells more than the time that passes. Below the steps, the operations that take most of them.
// The batch is of random tokens, whatever the config says.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/config/yaml.h"
#include "core/model/model.h"
#include "data/synthetic_rows.h"
#include "optim/trainer.h"

namespace conclave {
namespace {

constexpr int kWarmUp = 1, kRounds = 11;

struct Contestant {
  std::unique_ptr<core::OperationProfile> profile;
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Trainer> trainer;
  std::vector<double> seconds, cpu_seconds;                               // by round
  std::array<std::vector<double>, core::kNumOperations> operations = {};  // seconds, the same

  void Step(const core::Batch& batch, int round) {
    profile->fill({});
    const auto begin = std::chrono::steady_clock::now();
    const std::clock_t cpu_begin = std::clock();
    const optim::StepMetrics metrics = trainer->Step(batch, round + 1);
    const double cpu = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    CHECK(metrics.finite);
    if (round < kWarmUp) return;
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    cpu_seconds.push_back(cpu);
    for (size_t i = 0; i < operations.size(); ++i) operations[i].push_back((*profile)[i].seconds);
  }
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What exact sums reach of the throughput of float sums.
double MedianShare(const std::vector<double>& exact, const std::vector<double>& floats) {
  std::vector<double> shares;
  for (size_t i = 0; i < exact.size(); ++i) shares.push_back(floats[i] / exact[i]);
  return Median(shares);
}

void PrintOperations(const Contestant& exact, const Contestant& floats) {
  absl::PrintF("%-20s %12s %12s %12s\n", "operation", "exact ms", "float ms", "share");
  for (size_t i = 0; i < core::kNumOperations; ++i) {
    const double seconds = Median(exact.operations[i]);
    if (seconds < 0.01 * Median(exact.seconds)) continue;
    absl::PrintF("%-20s %12.1f %12.1f %12.3f\n", Name(static_cast<core::Operation>(i)), 1e3 * seconds,
                 1e3 * Median(floats.operations[i]), MedianShare(exact.operations[i], floats.operations[i]));
  }
}

Contestant Make(core::Config config, bool exact, core::Device& device) {
  config.exact = exact;
  auto profile = std::make_unique<core::OperationProfile>();
  auto model = core::Model::Create(config.model, device,
                                   {.precision = config.ComputePrecision(),
                                    .purpose = core::ParamSet::Purpose::kTraining,
                                    .training = core::TrainingStateOf(config),
                                    .max_positions = config.data.sequence_length,
                                    .profile = profile.get()});
  CHECK(model.ok());
  (*model)->params().Initialize((*model)->kernels(), static_cast<uint64_t>(config.train.seed),
                                config.model.initializer_range);
  (*model)->Refresh();
  auto trainer = optim::Trainer::Create(**model, config);
  CHECK(trainer.ok());
  return {std::move(profile), std::move(*model), std::move(*trainer), {}, {}};
}

core::Batch RandomTokens(const core::Config& config) {
  const int64_t rows = config.batch.sequences, length = config.data.sequence_length;
  const std::vector<int32_t> none(static_cast<size_t>(rows * length), -1);
  core::Batch batch{.rows = rows, .length = length, .tokens = none, .positions = none, .labels = none};
  const data::SyntheticRows source(length, config.model.vocab_size, 1);
  for (int64_t row = 0; row < rows; ++row) source.Fill(row, row, batch);
  return batch;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: exactness_bench CONFIG [KEY=VALUE ...]\n", stderr);
    return 2;
  }
  const auto config = core::LoadConfig(argv[1], std::vector<std::string>(argv + 2, argv + argc));
  const auto device = core::CreateDevice({});
  if (!config.ok() || !device.ok()) {
    std::fprintf(stderr, "%s\n", (config.ok() ? device.status() : config.status()).ToString().c_str());
    return 2;
  }
  Contestant exact = Make(*config, true, **device), floats = Make(*config, false, **device);
  const core::Batch batch = RandomTokens(*config);
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    for (Contestant* next : {round % 2 ? &exact : &floats, round % 2 ? &floats : &exact}) next->Step(batch, round);
  }
  const double tokens = static_cast<double>(batch.rows * batch.length);
  absl::PrintF("%s, %s, %s; %d steps each, in turns\n", argv[1], config->precision, (*device)->Description(), kRounds);
  absl::PrintF("%-8s %12s %12s %12s\n", "sums", "ms a step", "CPU ms", "tokens/s");
  for (const auto& [name, contestant] : {std::pair{"exact", &exact}, {"float", &floats}}) {
    const double seconds = Median(contestant->seconds);
    absl::PrintF("%-8s %12.1f %12.1f %12.0f\n", name, 1e3 * seconds, 1e3 * Median(contestant->cpu_seconds),
                 tokens / seconds);
  }
  absl::PrintF("%-8s %12.3f %12.3f\n", "share", MedianShare(exact.seconds, floats.seconds),
               MedianShare(exact.cpu_seconds, floats.cpu_seconds));
  PrintOperations(exact, floats);
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
