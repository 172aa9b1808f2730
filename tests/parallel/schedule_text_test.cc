// SPDX-License-Identifier: Apache-2.0
// Schedules as text and back.
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "tests/parallel/schedule_shapes.h"

namespace conclave::parallel {
namespace {

class ScheduleNames : public ::testing::TestWithParam<const char*> {};

TEST_P(ScheduleNames, HaveTheGoldenGrid) {
  const std::string name = GetParam();
  std::ifstream file(CONCLAVE_SOURCE_DIR "/tests/golden/schedules/" + name + ".txt");
  const std::string golden{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const Schedule schedule = Make(name, {4, name.starts_with("dualpipe") ? 10 : 8});
  EXPECT_EQ(ScheduleText(schedule), golden);
  const absl::StatusOr<Schedule> parsed = ParseSchedule(golden);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, schedule);
}

INSTANTIATE_TEST_SUITE_P(All, ScheduleNames, ::testing::ValuesIn(kScheduleNames),
                         [](const auto& info) { return std::string(info.param); });

TEST(ScheduleText, ReadsBack) {
  for (const Schedule& schedule : AllSchedules()) {
    for (const Schedule& printed : {schedule, MakeForwardSchedule(schedule, 3)}) {
      const absl::StatusOr<Schedule> parsed = ParseSchedule(ScheduleText(printed));
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      EXPECT_EQ(*parsed, printed) << Describe(printed);
    }
  }
}

TEST(ScheduleText, ErrorsNameThePlace) {
  const std::string shape = "a for training: ranks 1, stages 1, micro-batches 1, placement loop\n";
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"", "0 lines: a line for the shape and one for each of 1 ranks are expected"},
      {"\n", "line 1, column 1: expected the name"},
      {shape, "1 lines: a line for the shape and one for each of 1 ranks are expected"},
      {shape + "\n\n", "3 lines: a line"},
      {shape + "0F0", "line 2 has no end"},
      {shape + "0F0 0X0\n", "line 2, column 6: expected one of the verbs F, B, I, W"},
      {shape + "0F0  0B0\n", "line 2, column 5: expected a number"},
      {shape + "0F0 \n", "line 2, column 5: expected a number"},
      {shape + "0F0&\n", "line 2, column 5: expected a number"},
      {shape + "0F0,0B0\n", "line 2, column 4: expected ' '"},
      {shape + "0F-1\n", "line 2, column 3: expected a number"},
      {shape + "99999999999F0\n", "line 2, column 1: the number is too large"},
      {"a for fun: ranks 1\n", "line 1, column 7: expected one of training, validation"},
      {"a for training: ranks 1, stages 1, micro-batches 1, placement x\n",
       "column 63: expected one of loop, v, mirror"},
      {"a for training: ranks 1, stages 1, micro-batches 1, placement v2\n", "column 64: the line should end here"},
      {"a for training: rank 1\n", "line 1, column 15: expected ': ranks '"},
  };
  for (const auto& [text, why] : cases) {
    const absl::Status status = ParseSchedule(text).status();
    EXPECT_TRUE(Contains(Message(status), why)) << text << "\n" << status;
  }
}

int NumForwards(const Schedule& schedule) {
  int count = 0;
  for (const std::vector<Cell>& cells : schedule.cells) {
    for (const Cell& cell : cells) count += cell.first.verb == Verb::kForward;
  }
  return count;
}

TEST(ScheduleText, SurvivesAnyBytes) {
  std::mt19937 random(1);
  const std::string text = ScheduleText(Make("dualpipev", {2, 4}));
  int read = 0, valid = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string broken = text;
    for (int n = static_cast<int>(random() % 3); n >= 0; --n) {
      const size_t at = random() % broken.size();
      const char byte = random() % 2 ? text[random() % text.size()] : static_cast<char>(random());
      random() % 3 == 0 ? broken.erase(at, 1 + random() % 9) : broken.replace(at, random() % 2, 1, byte);
      if (broken.empty()) broken = " ";
    }
    const absl::StatusOr<Schedule> parsed = ParseSchedule(broken);
    if (!parsed.ok()) continue;
    ++read;
    const absl::StatusOr<Schedule> again = ParseSchedule(ScheduleText(*parsed));
    ASSERT_TRUE(again.ok()) << broken;
    EXPECT_EQ(*again, *parsed) << broken;
    if (!ValidateSchedule(*parsed).ok()) continue;
    ++valid;
    EXPECT_EQ(NumForwards(*parsed), parsed->num_stages * parsed->num_micro) << broken;
  }
  EXPECT_GT(read, 100);  // else the test has not come far
  EXPECT_GT(valid, 10);
}

}  // namespace
}  // namespace conclave::parallel
