// SPDX-License-Identifier: Apache-2.0
// `conclave schedule` as a user meets it.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

Outcome RunSchedule(std::vector<std::string> arguments) {
  const TemporaryFolder folder;
  arguments.insert(arguments.begin(), "schedule");
  return RunConclave(folder, arguments);
}

TEST(ScheduleCommand, PrintsListPictureAndNumbers) {
  const Outcome outcome = RunSchedule({"zb1p", "--ranks", "2", "--micro-batches", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "zb1p for training: ranks 2, stages 2, micro-batches 3, placement loop\n"
            "0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2\n"
            "1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2\n"
            "\n"
            "timeline, a column is 0.5\n"
            "F0F1..I0W0F2I1W1I2W2\n"
            "..F0I0F1I1W0F2I2W1W2\n"
            "\n"
            "makespan    10\n"
            "bubble      10.00 %\n"
            "peak slots  rank 0: 2 until the input gradient, 2 until the weight gradient\n"
            "            rank 1: 1 until the input gradient, 2 until the weight gradient\n");
}

TEST(ScheduleCommand, TakesCostsAndChunks) {
  const Outcome chunks =
      RunSchedule({"interleaved", "--ranks", "2", "--micro-batches", "4", "--virtual-stages", "3", "--cost", "1,2,3"});
  EXPECT_EQ(chunks.code, 0) << chunks.err;
  EXPECT_TRUE(Contains(chunks.out, "ranks 2, stages 6, micro-batches 4")) << chunks.out;
  EXPECT_TRUE(Contains(chunks.out, "makespan    78\n")) << chunks.out;  // (4 x 3 + 1) x 6
  const Outcome pair = RunSchedule({"dualpipe", "--ranks", "4", "--micro-batches", "10", "--cost", "1,1,1,2.5"});
  EXPECT_TRUE(Contains(pair.out, "makespan    29\n")) << pair.out;  // 30 - 5 x 0.5 + 1.5
}

TEST(ScheduleCommand, PrintsJson) {
  const Outcome outcome = RunSchedule({"dualpipev", "--ranks", "2", "--micro-batches", "4", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json object = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(object.at("schedule"), "dualpipev");
  EXPECT_EQ(object.at("num_stages"), 4);
  EXPECT_EQ(object.at("makespan"), 24 + 2);
  EXPECT_NEAR(object.at("bubble_share"), 2.0 / 26, 1e-12);
  const nlohmann::json& rank = object.at("ranks").at(1);
  EXPECT_EQ(rank.at("idle"), 2);
  EXPECT_EQ(rank.at("until_weight_grad"), 5);
  EXPECT_EQ(rank.at("chunks").at(1),
            nlohmann::json::parse(R"({"stage": 2, "until_input_grad": 2, "until_weight_grad": 2})"));
  EXPECT_EQ(rank.at("cells").at(0), nlohmann::json::parse(R"({"cell": "1F0", "begin": 1.0, "end": 2.0})"));
}

TEST(ScheduleCommand, BadInputIsWrongUsageAndSaysWhy) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> cases = {
      {{"dualpip", "--ranks", "4", "--micro-batches", "8"}, "dualpip is unknown (did you mean dualpipe?); choose from"},
      {{"dualpipe", "--ranks", "3", "--micro-batches", "8"}, "even number of ranks, not 3"},
      {{"zbv", "--ranks", "4", "--micro-batches", "2"}, "at least 4 micro-batches"},
      {{"zbv", "--ranks", "4"}, "--micro-batches is required"},
      {{"zbv", "--ranks", "0", "--micro-batches", "8"}, "--ranks: 0 is outside"},
      {{"zbv", "--ranks", "4", "--micro-batches", "8", "--virtual-stages", "3"}, "--virtual-stages: only interleaved"},
      {{"zbv", "--ranks", "4", "--micro-batches", "8", "--cost", "1,2"}, "--cost: give three numbers"},
      {{"zbv", "--ranks", "4", "--micro-batches", "8", "--cost", "1,2,nan"}, "--cost: nan is not above 0"},
      {{"zbv", "--ranks", "60000", "--micro-batches", "1000000"}, "are more than the 4194304 forwards"},
  };
  for (const auto& [arguments, why] : cases) {
    const Outcome outcome = RunSchedule(arguments);
    EXPECT_EQ(outcome.code, 2) << why;
    EXPECT_TRUE(Contains(outcome.err, why)) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

}  // namespace
}  // namespace conclave::launch
