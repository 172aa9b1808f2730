// SPDX-License-Identifier: Apache-2.0
#include "core/base/trace.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace conclave::core {
namespace {

nlohmann::json EventsOf(const Trace& trace) {
  const std::string events[] = {trace.Events(3, "rank 3: pipeline 1")};
  return nlohmann::json::parse(TraceFileText(events)).at("traceEvents");
}

nlohmann::json FindMetadata(const Trace& trace, const std::string& name) {
  for (const nlohmann::json& event : EventsOf(trace)) {
    if (event.at("name") == name) return event.at("args");
  }
  return nullptr;
}

TEST(Trace, WritesSpansInMicrosecondsWithWhatTheyBelongTo) {
  Trace trace(10);
  trace.Start(0, 2500);
  trace.Record(TraceLane::kCompute, "cell", "2F0", 1001, 3000, {2, 0});
  trace.Record(TraceLane::kExchange, "exchange", "pipeline Send", 4000, 10000, {}, 512);
  const nlohmann::json events = EventsOf(trace);
  const nlohmann::json cell = {
      {"ph", "X"},     {"pid", 3},    {"tid", 0},     {"cat", "cell"},
      {"name", "2F0"}, {"ts", 1.001}, {"dur", 1.999}, {"args", {{"stage", 2}, {"micro_batch", 0}}}};
  const nlohmann::json send = {{"ph", "X"},
                               {"pid", 3},
                               {"tid", 2},
                               {"cat", "exchange"},
                               {"name", "pipeline Send"},
                               {"ts", 4.0},
                               {"dur", 6.0},
                               {"args", {{"bytes", 512}}}};
  EXPECT_EQ(events.at(events.size() - 2), cell);
  EXPECT_EQ(events.back(), send);
  EXPECT_EQ(FindMetadata(trace, "process_name").at("name"), "rank 3: pipeline 1");
  EXPECT_EQ(FindMetadata(trace, "clock_uncertainty").at("microseconds"), 2.5);
}

TEST(Trace, CountsWhatNoLongerFits) {
  Trace trace(2);
  for (int i = 0; i < 5; ++i) trace.Record(TraceLane::kCompute, "cell", "0F0", i, i + 1, {});
  EXPECT_EQ(trace.spans().size(), 2u);
  EXPECT_EQ(trace.num_dropped(), 3);
  EXPECT_EQ(FindMetadata(trace, "dropped_spans").at("count"), 3);
  trace.Start(0, 0);
  EXPECT_EQ(trace.spans().size(), 0u);
  EXPECT_EQ(trace.num_dropped(), 0);
}

TEST(Trace, DrawsExchangesThatOverlapInRowsOfTheirOwn) {
  Trace trace(10);
  const auto exchange = [&trace](int64_t begin, int64_t end) {
    trace.Record(TraceLane::kExchange, "exchange", "x", begin, end, {});
  };
  exchange(5, 6);  // in the order of their ends
  exchange(0, 10);
  exchange(10, 20);
  exchange(2, 30);
  std::vector<int> rows;
  for (const nlohmann::json& event : EventsOf(trace)) {
    if (event.at("ph") == "X") rows.push_back(event.at("tid"));
  }
  EXPECT_EQ(rows, (std::vector<int>{4, 2, 2, 3}));
}

TEST(Trace, CutsANameThatIsTooLong) {
  Trace trace(1);
  trace.Record(TraceLane::kCompute, "cell", std::string(100, 'x'), 0, 1, {});
  EXPECT_EQ(trace.spans()[0].name, std::string(31, 'x'));
}

TEST(TraceScope, RecordsItsLifeAndPlaceAndNothingWithoutATrace) {
  Trace trace(10);
  trace.Start(0, 0);
  {
    const TraceAt outer(&trace, {1, 2});
    const TraceScope cell(&trace, "cell", "outer");
    const TraceAt inner(&trace, {3, 4});
    const TraceScope phase(&trace, "phase", "inner");
    const TraceAt off(nullptr, {5, 6});
    const TraceScope nothing(nullptr, "phase", "none");
  }
  ASSERT_EQ(trace.spans().size(), 2u);
  const TraceSpan &inner = trace.spans()[0], &outer = trace.spans()[1];
  EXPECT_STREQ(inner.name, "inner");
  EXPECT_EQ(inner.place.stage, 3);
  EXPECT_EQ(outer.place.micro, 2);
  EXPECT_LE(outer.begin, inner.begin);
  EXPECT_LE(inner.end, outer.end);
  EXPECT_EQ(trace.place().stage, -1);
}

}  // namespace
}  // namespace conclave::core
