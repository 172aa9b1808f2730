// SPDX-License-Identifier: Apache-2.0
// samples.jsonl: what is written reads back, whatever the bytes; what is not of its form is refused with its place.
#include "launch/sample_log.h"

#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "launch/metrics.h"
#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

TEST(SampleLog, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const SampleLogLine first{.step = 25,
                            .samples = {{.prompt = "1+2=",
                                         .answer = "3",
                                         .response = std::string("\"<\\\n\0\xE2\x82\xAC", 8),
                                         .reward = 0.1,
                                         .solved = true},
                                        {.prompt = "", .answer = "", .response = ""}}};
  const SampleLogLine second{.step = 50};
  WriteFile(folder / "s", WriteSampleLine(first) + WriteSampleLine(second) + "{\"step\": 75, \"sam");
  const auto lines = ReadSampleLog(folder / "s");
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 2u);  // the third is not whole
  EXPECT_EQ((*lines)[0].step, 25);
  ASSERT_EQ((*lines)[0].samples.size(), 2u);
  EXPECT_EQ((*lines)[0].samples[0].response, first.samples[0].response);
  EXPECT_EQ((*lines)[0].samples[0].reward, 0.1);
  EXPECT_TRUE((*lines)[0].samples[0].solved);
  EXPECT_FALSE((*lines)[0].samples[1].solved);
  EXPECT_EQ((*lines)[1].step, 50);
}

TEST(SampleLog, IsOneLineOfJsonWhateverTheBytes) {
  const std::string line = WriteSampleLine({.step = 1, .samples = {{.prompt = "\xFF", .response = "a\nb"}}});
  EXPECT_EQ(line,
            "{\"step\": 1, \"samples\": [{\"prompt\": \"\xEF\xBF\xBD\", \"answer\": \"\", \"response\": \"a\\nb\", "
            "\"reward\": 0, \"solved\": false}]}\n");
}

TEST(SampleLog, IsCutBackAsMetricsAre) {
  const TemporaryFolder folder;
  const std::string kept = WriteSampleLine({.step = 5, .samples = {{.prompt = "p"}}}) + WriteSampleLine({.step = 10});
  WriteFile(folder / "s", kept + WriteSampleLine({.step = 15}) + "{\"st");
  const auto history = ReadMetrics(folder / "s", 12, "samples");
  ASSERT_TRUE(history.ok());
  EXPECT_EQ(history->bytes, static_cast<int64_t>(kept.size()));
}

TEST(SampleLog, OfNoFileIsEmpty) {
  const auto lines = ReadSampleLog("/nowhere/samples.jsonl");
  ASSERT_TRUE(lines.ok());
  EXPECT_TRUE(lines->empty());
}

TEST(SampleLog, NamesThePlaceOfWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string good = WriteSampleLine({.step = 1, .samples = {{.prompt = "p"}}});
  for (const char* bad :
       {"no json", "[]", "{\"samples\": []}", "{\"step\": 1.5, \"samples\": []}", "{\"step\": 2}",
        "{\"step\": 2, \"samples\": {}}", "{\"step\": 2, \"samples\": [1]}", "{\"step\": 2, \"samples\": [{}]}",
        "{\"step\": 2, \"samples\": [{\"prompt\": \"\", \"answer\": \"\", \"response\": \"\"}]}",
        "{\"step\": 2, \"samples\": [{\"prompt\": 1, \"answer\": \"\", \"response\": \"\", \"reward\": 1, \"solved\": "
        "true}]}"}) {
    WriteFile(folder / "s", good + bad + "\n");
    const auto lines = ReadSampleLog(folder / "s");
    ASSERT_FALSE(lines.ok()) << bad;
    EXPECT_NE(std::string(lines.status().message()).find(folder / "s:2"), std::string::npos) << lines.status();
  }
}

TEST(SampleLog, HasTheFirstResponseToEachOfThreeProblems) {
  const std::vector<data::Prompt> problems = {
      {.text = "a", .answer = "1"}, {.text = "b", .answer = "2"}, {.text = "c", .answer = "3"}, {.text = "d"}};
  std::vector<rl::Group> groups;
  for (int64_t draw = 0; draw < 4; ++draw) {
    rl::Group& group = groups.emplace_back(rl::Group{.draw = draw});
    group.episodes.push_back({.text = "first", .reward = 0.5, .parts = {1, 0}});
    group.episodes.push_back({.text = "second", .parts = {0, 0}});
  }
  const std::vector<LoggedSample> samples = FirstSamples(problems, groups);
  ASSERT_EQ(samples.size(), 3u);
  EXPECT_EQ(samples[1].prompt, "b");
  EXPECT_EQ(samples[1].answer, "2");
  EXPECT_EQ(samples[1].response, "first");
  EXPECT_EQ(samples[1].reward, 0.5);
  EXPECT_TRUE(samples[1].solved);
  EXPECT_EQ(FirstSamples(problems, std::span(groups).first(1)).size(), 1u);
}

}  // namespace
}  // namespace conclave::launch
