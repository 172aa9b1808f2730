// SPDX-License-Identifier: Apache-2.0
// Exchanges of tokens that take long, on ranks that sleep meanwhile: what a cell hides is then a count of exchanges.
#include "parallel/overlap.h"

#include <nlohmann/json.hpp>

#include "parallel/delay_comm.h"
#include "parallel/schedule.h"
#include "parallel/simulate.h"
#include "tests/support/train_on_ranks.h"

namespace conclave::parallel {
namespace {

using testing::RunResult;
using testing::RunSetup;
using testing::TrainOnRanks;

constexpr double kDelay = 6e-3;  // much longer than a phase computes
constexpr int kMicros = 16;

// Two pipeline ranks by two expert ranks, a MoE block per stage of dualpipev, nothing beside blocks that exchanges.
RunSetup Slow(const std::string& schedule) {
  RunSetup setup = testing::FourRanks(schedule, kMicros);
  setup.wrap = [](std::unique_ptr<Comm> world) {
    return MakeDelayComm(std::move(world), {.seconds_per_operation = kDelay, .group = "expert"});
  };
  return setup;
}

TEST(Overlap, HidesTheExchangesThatTheDesignSaysWithTheSameBits) {
  RunSetup setup = Slow("dualpipev");
  setup.config.parallel.overlap = false;
  const RunResult serial = TrainOnRanks(setup);
  // Counts, tokens, rows one after the other in a forward; gradients, rows in a backward, which lie beside them.
  const StageCost cost{.forward = 3 * kDelay, .backward_input = 2 * kDelay, .backward_weight = 0};
  const Schedule schedule = *MakeSchedule("dualpipev", {2, kMicros, 1});
  const double serial_model = Simulate(schedule, {.stages = {cost}}).makespan;
  const double overlapped_model = Simulate(schedule, {.stages = {cost}, .overlap = 3.0 / 5}).makespan;
  setup.config.parallel.overlap = true;
  const RunResult overlapped = testing::TrainOnRanksWithin(1.25 * overlapped_model, setup);
  EXPECT_EQ(overlapped.hash, serial.hash);
  EXPECT_EQ(overlapped.figures, serial.figures);
  RecordProperty("serial", std::to_string(serial.seconds / serial_model));
  RecordProperty("overlapped", std::to_string(overlapped.seconds / overlapped_model));
  RecordProperty("saved_model", std::to_string(1 - overlapped_model / serial_model));
  RecordProperty("saved", std::to_string(1 - overlapped.seconds / serial.seconds));
  EXPECT_LT(overlapped_model, 0.75 * serial_model);
  EXPECT_GE(serial.seconds, serial_model);
  EXPECT_LE(overlapped.seconds, 0.75 * serial.seconds);
  EXPECT_LE(overlapped.seconds, 1.25 * overlapped_model);
}

// Names of rank 0's cells and phases in order.
std::vector<std::string> ComputeOf(const RunResult& result) {
  const nlohmann::json trace = nlohmann::json::parse(result.trace.text);
  std::vector<std::string> names;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X" && event.at("pid") == 0 && event.at("tid") == 0) names.push_back(event.at("name"));
  }
  return names;
}

TEST(Overlap, ChangesNothingWhereNoCellHasTwoActions) {
  for (const char* schedule : {"1f1b", "zb1p", "dualpipev"}) {
    RunSetup setup = Slow(schedule);
    setup.wrap = {};
    setup.trace_capacity = 10000;
    setup.config.parallel.overlap = false;
    const std::vector<std::string> serial = ComputeOf(TrainOnRanks(setup));
    setup.config.parallel.overlap = true;
    const std::vector<std::string> overlapped = ComputeOf(TrainOnRanks(setup));
    EXPECT_EQ(serial == overlapped, std::string(schedule) != "dualpipev") << schedule;
  }
}

}  // namespace
}  // namespace conclave::parallel
