// SPDX-License-Identifier: Apache-2.0
// What one rank does, as spans of time, written as trace events that Chrome (chrome://tracing) and Perfetto
// (ui.perfetto.dev) show. Spans go into memory that is there from the start: a step allocates nothing, and what no
// longer fits is counted. Without a recorder, a null pointer, a TraceScope is one comparison.
//
// One thread records. Compute and waits nest or follow one another; exchanges may overlap, and the text gives those
// that are under way at once a row each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::core {

enum class TraceLane : uint8_t {
  kCompute,   // what the rank works on, waits included
  kWait,      // in which it sleeps until an exchange is over: idle
  kExchange,  // from the begin of an exchange to the end of its wait
};

// Whose work it is; -1: nobody's.
struct TracePlace {
  int stage = -1, micro = -1;
};

struct TraceSpan {
  char name[32] = {};  // plain text, cut where it is longer
  const char* category = "";
  TraceLane lane = TraceLane::kCompute;
  TracePlace place;
  int64_t bytes = -1;          // that an exchange moves; -1: none
  int64_t begin = 0, end = 0;  // nanoseconds since Start
};

class Trace {
 public:
  static constexpr int64_t kDefaultCapacity = int64_t{1} << 18;  // spans; memory that is not used is not touched

  explicit Trace(int64_t capacity = kDefaultCapacity) { spans_.reserve(static_cast<size_t>(capacity)); }

  // Forgets what was recorded, and sets time zero to what Now() once gave. `uncertainty`: by how many nanoseconds that
  // instant may differ from the one of other ranks.
  void Start(int64_t zero, int64_t uncertainty);
  int64_t Now() const;  // nanoseconds

  // From `begin` to `end`, as part of what place() says. `category` is a literal.
  void Record(TraceLane lane, const char* category, std::string_view name, int64_t begin, int64_t end, TracePlace place,
              int64_t bytes = -1);

  TracePlace& place() { return place_; }                       // of what happens now
  std::span<const TraceSpan> spans() const { return spans_; }  // in the order in which they ended
  int64_t num_dropped() const { return num_dropped_; }         // spans, since it was full
  // Trace events, separated by commas, of the process `pid` that the viewer calls `process`.
  std::string Events(int pid, std::string_view process) const;

 private:
  std::vector<TraceSpan> spans_;
  int64_t zero_ = 0, uncertainty_ = 0;
  int64_t num_dropped_ = 0;
  TracePlace place_;
};

// A file of the events of all processes.
std::string TraceFileText(std::span<const std::string> events);

// Says for as long as it lives whose work is done.
class TraceAt {
 public:
  TraceAt(Trace* trace, TracePlace place) : trace_(trace) {
    if (!trace_) return;
    before_ = trace_->place();
    trace_->place() = place;
  }
  TraceAt(const TraceAt&) = delete;
  TraceAt& operator=(const TraceAt&) = delete;
  ~TraceAt() {
    if (trace_) trace_->place() = before_;
  }

 private:
  Trace* const trace_;
  TracePlace before_;
};

// Records its own life as a span of compute. `name` outlives it.
class TraceScope {
 public:
  TraceScope(Trace* trace, const char* category, std::string_view name)
      : trace_(trace), category_(category), name_(name), begin_(trace ? trace->Now() : 0) {}
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;
  ~TraceScope() {
    if (trace_) trace_->Record(TraceLane::kCompute, category_, name_, begin_, trace_->Now(), trace_->place());
  }

 private:
  Trace* const trace_;
  const char* const category_;
  const std::string_view name_;
  const int64_t begin_;
};

}  // namespace conclave::core
