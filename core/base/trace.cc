// SPDX-License-Identifier: Apache-2.0
#include "core/base/trace.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

int64_t ClockNanoseconds() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// The format counts in microseconds.
std::string Microseconds(int64_t nanoseconds) {
  return absl::StrFormat("%d.%03d", nanoseconds / 1000, nanoseconds % 1000);
}

// Which row each span is drawn in: exchanges that overlap in different ones, each in the first that is free.
std::vector<int> RowsOf(std::span<const TraceSpan> spans) {
  std::vector<int> rows(spans.size());
  std::vector<size_t> exchanges;
  for (size_t i = 0; i < spans.size(); ++i) {
    rows[i] = static_cast<int>(spans[i].lane);
    if (spans[i].lane == TraceLane::kExchange) exchanges.push_back(i);
  }
  std::stable_sort(exchanges.begin(), exchanges.end(),
                   [&](size_t a, size_t b) { return spans[a].begin < spans[b].begin; });
  std::vector<int64_t> ends;  // by row of exchanges
  for (const size_t i : exchanges) {
    auto row = std::find_if(ends.begin(), ends.end(), [&](int64_t end) { return end <= spans[i].begin; });
    if (row == ends.end()) row = ends.insert(row, 0);
    *row = spans[i].end;
    rows[i] += static_cast<int>(row - ends.begin());
  }
  return rows;
}

std::string Metadata(int pid, int tid, std::string_view what, std::string_view key, std::string_view value) {
  return absl::StrFormat(R"({"ph":"M","pid":%d,"tid":%d,"name":"%s","args":{"%s":%s}})", pid, tid, what, key, value);
}

std::string RowName(int row) {
  const int exchange = row - static_cast<int>(TraceLane::kExchange);
  if (exchange < 0) return row == static_cast<int>(TraceLane::kCompute) ? "compute" : "wait";
  return exchange == 0 ? "exchange" : absl::StrFormat("exchange %d", exchange + 1);
}

std::string Event(const TraceSpan& span, int pid, int tid) {
  std::string args;
  const auto add = [&args](std::string_view key, int64_t value) {
    if (value >= 0) absl::StrAppendFormat(&args, R"(%s"%s":%d)", args.empty() ? "" : ",", key, value);
  };
  add("stage", span.place.stage);
  add("micro_batch", span.place.micro);
  add("bytes", span.bytes);
  return absl::StrFormat(R"({"ph":"X","pid":%d,"tid":%d,"cat":"%s","name":"%s","ts":%s,"dur":%s,"args":{%s}})", pid,
                         tid, span.category, span.name, Microseconds(span.begin), Microseconds(span.end - span.begin),
                         args);
}

}  // namespace

void Trace::Start(int64_t zero, int64_t uncertainty) {
  spans_.clear();
  num_dropped_ = 0;
  uncertainty_ = uncertainty;
  zero_ += zero;
}

int64_t Trace::Now() const { return ClockNanoseconds() - zero_; }

void Trace::Record(TraceLane lane, const char* category, std::string_view name, int64_t begin, int64_t end,
                   TracePlace place, int64_t bytes) {
  if (spans_.size() == spans_.capacity()) {
    ++num_dropped_;
    return;
  }
  TraceSpan& span = spans_.emplace_back();
  span = {.category = category, .lane = lane, .place = place, .bytes = bytes, .begin = begin, .end = end};
  name.copy(span.name, sizeof(span.name) - 1);
}

std::string Trace::Events(int pid, std::string_view process) const {
  std::string text = Metadata(pid, 0, "process_name", "name", absl::StrFormat(R"("%s")", process));
  text += ",\n" + Metadata(pid, 0, "process_sort_index", "sort_index", absl::StrFormat("%d", pid));
  text += ",\n" + Metadata(pid, 0, "clock_uncertainty", "microseconds", Microseconds(uncertainty_));
  text += ",\n" + Metadata(pid, 0, "dropped_spans", "count", absl::StrFormat("%d", num_dropped_));
  const std::vector<int> rows = RowsOf(spans_);
  const int last = rows.empty() ? -1 : *std::max_element(rows.begin(), rows.end());
  for (int row = 0; row <= last; ++row) {
    text += ",\n" + Metadata(pid, row, "thread_name", "name", absl::StrFormat(R"("%s")", RowName(row)));
    text += ",\n" + Metadata(pid, row, "thread_sort_index", "sort_index", absl::StrFormat("%d", row));
  }
  for (size_t i = 0; i < spans_.size(); ++i) text += ",\n" + Event(spans_[i], pid, rows[i]);
  return text;
}

std::string TraceFileText(std::span<const std::string> events) {
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (size_t i = 0; i < events.size(); ++i) text += (i > 0 ? ",\n" : "") + events[i];
  return text + "\n]}\n";
}

}  // namespace conclave::core
