// SPDX-License-Identifier: Apache-2.0
// `conclave train --profile`: the summary of recorded steps, and the run that it must not change.
#include "launch/step_profiler.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

using core::Operation;

std::vector<nlohmann::json> Lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  const std::string text = ReadFile(path);
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
  }
  return lines;
}

double SumOfShares(const std::vector<nlohmann::json>& lines) {
  double shares = 0;
  for (size_t i = 1; i < lines.size(); ++i) shares += lines[i]["share"].get<double>();
  return shares;
}

StepProfile::Row Find(const StepProfile& profile, std::string_view name) {
  for (const StepProfile::Row& row : profile.rows) {
    if (row.name == name) return row;
  }
  ADD_FAILURE() << "no row " << name;
  return {};
}

// Steps 11 ... 11 + warm-up and more: in the measured ones, Gemm takes `seconds` of a step of 10 seconds.
StepProfile ProfileOf(const std::vector<double>& seconds) {
  core::OperationProfile operations{};
  auto device = core::CreateDevice({.num_threads = 1});
  EXPECT_TRUE(device.ok());
  StepProfiler profiler(operations, **device, core::DType::kF32, static_cast<int64_t>(seconds.size()));
  int64_t step = 10;
  const auto run = [&](double gemm_seconds) {
    operations[static_cast<size_t>(Operation::kAdd)].calls = 5;  // of a validation before the step
    profiler.BeginStep();
    operations[static_cast<size_t>(Operation::kGemm)] = {.calls = 4, .seconds = gemm_seconds, .flops = 6e9};
    operations[static_cast<size_t>(Operation::kAdamW)] = {.calls = 1, .seconds = 1, .bytes = 3e9};
    profiler.EndStep(++step, 10, 2);
  };
  for (int i = 0; i < 3; ++i) run(1000);  // to warm up
  for (const double gemm_seconds : seconds) {
    EXPECT_FALSE(profiler.Complete());
    run(gemm_seconds);
  }
  EXPECT_TRUE(profiler.Complete());
  run(1000);  // after the last one: ignored
  return profiler.Summarize();
}

TEST(StepProfiler, TakesMediansAndSharesOfTheWholeStep) {
  const StepProfile profile = ProfileOf({4, 3, 6});
  EXPECT_EQ(profile.first_step, 14);
  EXPECT_EQ(profile.num_steps, 3);
  ASSERT_EQ(profile.rows.size(), 4u);
  EXPECT_EQ(profile.rows[0].name, "Gemm");
  EXPECT_EQ(profile.rows[0].group, "matrix products");
  EXPECT_EQ(profile.rows[0].calls, 4);
  EXPECT_EQ(profile.rows[0].seconds, 4);
  EXPECT_EQ(profile.rows[0].flops, 6e9);
  EXPECT_EQ(Find(profile, "AdamW").bytes, 3e9);
  EXPECT_EQ(Find(profile, "waiting for the batch").seconds, 2);
  EXPECT_EQ(Find(profile, "loop").seconds, 3);  // 10 - 2 - 1 - 4
  double shares = 0;
  for (const StepProfile::Row& row : profile.rows) shares += row.share;
  EXPECT_DOUBLE_EQ(shares, 1);
  EXPECT_DOUBLE_EQ(profile.rows[0].share, 0.4);
}

TEST(StepProfiler, TableHasGroupsRowsAndTheWhole) {
  StepProfile profile = ProfileOf({4});
  profile.peak_flops = 3e9;
  profile.peak_between = 2e9;
  profile.copy_bytes = 12e9;
  const std::string table = ProfileTable(profile);
  EXPECT_TRUE(Contains(table, "profile of steps 14 to 14: median 10000.0 ms")) << table;
  EXPECT_TRUE(Contains(table, "\n  Gemm                              4  4000.000   40.0 %       1.5    50 %\n"))
      << table;
  EXPECT_TRUE(Contains(table, "    3.0    25 %\n")) << table;  // AdamW: 3 GB/s of 12
  EXPECT_TRUE(Contains(table, "\nmatrix products ")) << table;
  EXPECT_TRUE(Contains(table, "\noutside of operations                  5000.000   50.0 %\n")) << table;
  EXPECT_TRUE(Contains(table, "\nstep                                5 10000.000  100.0 %       0.6    20 %\n"))
      << table;
  EXPECT_TRUE(Contains(table, "reached 2.0 GFLOP/s, 67 % of the peak")) << table;
  EXPECT_TRUE(Contains(table, "a step does 30 % of that.\n")) << table;
}

TEST(ProfileCommand, ChangesNoBitAndWritesATableAndLines) {
  const TinyRun plain, profiled;
  ASSERT_EQ(plain.Train().code, 0);
  const Outcome outcome = profiled.Train({"--profile", "--profile-steps", "6"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(profiled.Hash(), plain.Hash());
  EXPECT_FALSE(std::filesystem::exists(plain.Dir() + "/profile.jsonl"));
  EXPECT_TRUE(Contains(outcome.out, "profile of steps 4 to 9: ")) << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "\nstep 24/24")) << outcome.out;  // the run goes on

  const std::vector<nlohmann::json> lines = Lines(profiled.Dir() + "/profile.jsonl");
  ASSERT_GT(lines.size(), 20u);
  EXPECT_EQ(lines[0]["first_step"], 4);
  EXPECT_EQ(lines[0]["steps"], 6);
  EXPECT_EQ(lines[0]["precision"], "f32");
  EXPECT_GT(lines[0]["processors"], 0.0);
  EXPECT_LT(lines[0]["processors"], 2.5);  // one thread, and one that reads ahead
  EXPECT_GT(lines[0]["peak_flops_per_second"], 0.0);
  EXPECT_GT(lines[0]["peak_between_flops_per_second"], 0.0);
  EXPECT_NEAR(SumOfShares(lines), 1, 1e-12);
  for (size_t i = 1; i < lines.size(); ++i) {
    EXPECT_TRUE(Contains(outcome.out, "\n  " + lines[i]["operation"].get<std::string>() + " ")) << lines[i];
  }
}

TEST(ProfileCommand, ResumedRunIsProfiledFromItsOwnSteps) {
  const TinyRun resumed, alike;
  ASSERT_EQ(resumed.Train({"train.steps=8"}).code, 0);
  ASSERT_EQ(alike.Train({"train.steps=8"}).code, 0);  // its first steps had a shorter schedule: so has the other
  ASSERT_EQ(alike.Train().code, 0);
  const Outcome outcome = resumed.Train({"--profile", "--profile-steps", "5"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Lines(resumed.Dir() + "/profile.jsonl")[0]["first_step"], 12);
  EXPECT_EQ(resumed.Hash(), alike.Hash());
}

TEST(ProfileCommand, ShortRunsReportWhatTheyHaveOrSayThatItIsNothing) {
  const TinyRun some;
  const Outcome outcome = some.Train({"--profile", "train.steps=5"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "profile of steps 4 to 5: ")) << outcome.out;
  const TinyRun none;
  const Outcome nothing = none.Train({"--profile", "train.steps=3"});
  EXPECT_EQ(nothing.code, 0);
  EXPECT_TRUE(Contains(nothing.err, "nothing was measured; raise train.steps")) << nothing.err;
  EXPECT_FALSE(std::filesystem::exists(none.Dir() + "/profile.jsonl"));
}

TEST(ProfileCommand, StoppedRunSavesAndReportsTheStepsSoFar) {
  const TinyRun run;
  Program program(run.folder(), run.TrainArguments({"--profile", "--profile-steps", "10000", "train.steps=1000000",
                                                    "train.checkpoint_every=0", "optim.schedule.name=constant"}));
  const auto lines = [&] {
    const std::string metrics = ReadFile(run.Metrics());
    return std::count(metrics.begin(), metrics.end(), '\n');
  };
  ASSERT_TRUE(WaitFor([&] { return lines() >= 5; }));
  program.Signal(SIGTERM);
  const Outcome outcome = program.Wait();
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "profile of steps 4 to " + std::to_string(lines()) + ": ")) << outcome.out;
  EXPECT_TRUE(std::filesystem::exists(run.Dir() + "/checkpoints/step_" + std::to_string(lines())));
}

TEST(ProfileCommand, OptionsThatContradictAreWrongUsage) {
  const TinyRun run;
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{{"--profile", "--dry-run"},
                                             {"--profile", "--validate-data"},
                                             {"--profile-steps", "4"},
                                             {"--profile", "--profile-steps", "0"}}) {
    const Outcome outcome = run.Train(options);
    EXPECT_EQ(outcome.code, 2) << options.back();
    EXPECT_TRUE(Contains(outcome.err, "--profile")) << outcome.err;
  }
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
}

}  // namespace
}  // namespace conclave::launch
