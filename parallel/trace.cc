// SPDX-License-Identifier: Apache-2.0
#include "parallel/trace.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"

namespace conclave::parallel {

void StartTrace(core::Trace& trace, Comm& all) {
  constexpr int kBarriers = 10;
  int64_t times[kBarriers], ends[kBarriers];  // nanoseconds
  for (int i = 0; i < kBarriers; ++i) {
    const int64_t begin = trace.Now();
    all.Barrier();
    ends[i] = trace.Now();
    times[i] = ends[i] - begin;
  }
  core::Stream host;
  const core::Tensor longest(times, core::DType::kI64, {kBarriers});
  all.Wait(host, all.AllReduce(host, longest, Reduction::kMax));
  const auto best = std::min_element(times, times + kBarriers);
  trace.Start(ends[best - times], *best);
}

GatheredTrace GatherTrace(const core::Trace& trace, const Layout& layout) {
  // What is recorded from here on, the gathering itself, is in no file.
  int64_t counts[] = {static_cast<int64_t>(trace.spans().size()), trace.num_dropped()};
  Comm& all = layout.all();
  const std::string place = layout.mesh().PlaceText(all.rank());
  const std::string process = absl::StrFormat("rank %d%s%s", all.rank(), place.empty() ? "" : ": ", place);
  const std::vector<std::string> events = all.GatherTexts(trace.Events(all.rank(), process));
  core::Stream host;
  const core::Tensor sums(counts, core::DType::kI64, {2});
  all.Wait(host, all.AllReduce(host, sums, Reduction::kSum));
  return {.text = all.rank() == 0 ? core::TraceFileText(events) : "", .num_spans = counts[0], .num_dropped = counts[1]};
}

}  // namespace conclave::parallel
