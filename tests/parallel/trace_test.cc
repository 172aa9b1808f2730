// SPDX-License-Identifier: Apache-2.0
#include "parallel/trace.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "tests/support/train_on_ranks.h"

namespace conclave::parallel {
namespace {

using nlohmann::json;
using testing::RunResult;
using testing::RunSetup;
using testing::TrainOnRanks;

constexpr int64_t kSteps = 2;

RunSetup Pipeline(const std::string& schedule, int64_t capacity) {
  RunSetup setup{.config = testing::TinyConfig(), .ranks = 2, .steps = kSteps, .trace_capacity = capacity};
  setup.config.model.num_hidden_layers = 4;
  setup.config.batch.micro_sequences = 1;
  setup.config.parallel.pipeline = 2;
  setup.config.parallel.schedule = schedule;
  return setup;
}

struct Span {
  std::string name, category;
  int64_t begin = 0, end = 0;  // nanoseconds
};

// By process and row, by begin; the longer of two that begin together first.
std::map<std::pair<int, int>, std::vector<Span>> SpansOf(const std::string& text) {
  const json file = json::parse(text);
  std::map<std::pair<int, int>, std::vector<Span>> rows;
  for (const json& event : file.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const int64_t begin = std::llround(event.at("ts").get<double>() * 1000);
    rows[{event.at("pid"), event.at("tid")}].push_back(
        {event.at("name"), event.at("cat"), begin, begin + std::llround(event.at("dur").get<double>() * 1000)});
  }
  for (auto& [row, spans] : rows) {
    std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
  }
  return rows;
}

constexpr int Row(core::TraceLane lane) { return static_cast<int>(lane); }

TEST(TraceOfARun, HasEachCellOfTheScheduleOncePerStepInOrder) {
  for (const char* name : {"1f1b", "zb1p", "dualpipev"}) {
    const RunResult result = TrainOnRanks(Pipeline(name, 20000));
    auto rows = SpansOf(result.trace.text);
    const Schedule schedule = *MakeSchedule(name, {2, 8, 1});
    for (int rank = 0; rank < 2; ++rank) {
      std::vector<std::string> expected, seen;
      for (const Cell& cell : schedule.cells[rank]) expected.push_back(CellText(cell));
      const std::vector<Span>& spans = rows[{rank, Row(core::TraceLane::kCompute)}];
      int64_t steps = 0;
      for (size_t i = 0; i < spans.size(); ++i) {
        if (spans[i].name != "step") continue;
        ++steps;
        seen.clear();
        for (size_t j = i + 1; j < spans.size() && spans[j].begin < spans[i].end; ++j) {
          if (spans[j].category == "cell") seen.push_back(spans[j].name);
        }
        EXPECT_EQ(seen, expected) << name << ", rank " << rank;
      }
      EXPECT_EQ(steps, kSteps);
    }
  }
}

TEST(TraceOfARun, HasSpansThatNestInEveryRow) {
  for (const auto& [row, spans] : SpansOf(TrainOnRanks(Pipeline("dualpipev", 20000)).trace.text)) {
    std::vector<const Span*> open;
    for (const Span& span : spans) {
      EXPECT_LE(span.begin, span.end);
      while (!open.empty() && open.back()->end <= span.begin) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(span.end, open.back()->end) << span.name << " in " << open.back()->name;
        EXPECT_EQ(row.second, Row(core::TraceLane::kCompute)) << "only compute nests";
      }
      open.push_back(&span);
    }
  }
}

TEST(TraceOfARun, WaitsForNothingButExchanges) {
  const RunResult result = TrainOnRanks(Pipeline("dualpipev", 20000));
  auto rows = SpansOf(result.trace.text);
  for (int rank = 0; rank < 2; ++rank) {
    std::multimap<std::pair<std::string, int64_t>, int64_t> begins;  // of exchanges, by name and end
    for (const auto& [row, spans] : rows) {
      if (row.first != rank || row.second < Row(core::TraceLane::kExchange)) continue;
      for (const Span& span : spans) begins.emplace(std::pair(span.name, span.end), span.begin);
    }
    const std::vector<Span>& waits = rows[{rank, Row(core::TraceLane::kWait)}];
    EXPECT_EQ(waits.size(), begins.size());
    for (const Span& wait : waits) {
      const auto exchange = begins.find({wait.name, wait.end});
      ASSERT_NE(exchange, begins.end()) << wait.name;
      EXPECT_LE(exchange->second, wait.begin);
    }
  }
}

TEST(TraceOfARun, NamesRanksAndLosesNoSpan) {
  const RunResult result = TrainOnRanks(Pipeline("zbv", 20000));
  EXPECT_NE(result.trace.text.find(R"("rank 1: pipeline 1")"), std::string::npos);
  int64_t spans = 0;
  for (const auto& [row, here] : SpansOf(result.trace.text)) spans += static_cast<int64_t>(here.size());
  EXPECT_EQ(result.trace.num_spans, spans);
  EXPECT_EQ(result.trace.num_dropped, 0);
}

TEST(TraceOfARun, SaysHowManySpansDidNotFit) {
  const RunResult whole = TrainOnRanks(Pipeline("1f1b", 20000)), cut = TrainOnRanks(Pipeline("1f1b", 100));
  EXPECT_EQ(cut.trace.num_spans, 200);
  EXPECT_EQ(cut.trace.num_spans + cut.trace.num_dropped, whole.trace.num_spans);
  EXPECT_EQ(cut.hash, whole.hash);
}

}  // namespace
}  // namespace conclave::parallel
