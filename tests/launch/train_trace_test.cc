// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "nlohmann/json.hpp"

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

TEST(TrainTrace, IsAFileOfTheRunThatChangesNoBit) {
  const TinyRun run, plain;
  const std::string path = run.folder() / "trace.json";
  const Outcome outcome = run.Train({"train.steps=3", "--trace", path});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find(path + ": "), std::string::npos) << outcome.out;
  ASSERT_EQ(plain.Train({"train.steps=3"}).code, 0);
  EXPECT_EQ(run.Hash(), plain.Hash());
  const nlohmann::json trace = nlohmann::json::parse(ReadFile(path));
  int steps = 0;
  for (const nlohmann::json& event : trace.at("traceEvents")) steps += event.at("name") == "step";
  EXPECT_EQ(steps, 3);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST(TrainTrace, RefusesAFileThatCannotBeWrittenBeforeTheRun) {
  const TinyRun run;
  const Outcome outcome = run.Train({"--trace", run.folder() / "no/trace.json"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("--trace: "), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(run.Metrics()));
}

}  // namespace
}  // namespace conclave::launch
