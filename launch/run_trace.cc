// SPDX-License-Identifier: Apache-2.0
#include "launch/run_trace.h"

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/checkpoint/file_io.h"
#include "launch/banner.h"
#include "launch/ranks.h"
#include "launch/usage_error.h"
#include "parallel/trace.h"

namespace conclave::launch {

absl::Status CheckTraceFile(const std::string& path, parallel::Job& job) {
  return OnFirst(job, [&path] {
    const absl::Status status = core::OutputFile::Create(path + ".part", 0).status();  // deleted at once
    return status.ok() ? status : UsageError("--trace: " + std::string(status.message()));
  });
}

void WriteTrace(const std::string& path, const RunParts& parts, parallel::Job& job) {
  const parallel::GatheredTrace trace = parallel::GatherTrace(*parts.trace, *parts.layout);
  if (!IsFirst(job)) return;
  const auto written = core::WriteTextFile(path, trace.text);
  if (!written.ok()) {
    core::LogWarning("--trace: " + std::string(written.status().message()));
    return;
  }
  PrintLabelled("trace", absl::StrFormat("%s: %d spans, for ui.perfetto.dev", path, trace.num_spans));
  if (trace.num_dropped > 0) {
    PrintLabelled("", absl::StrFormat("%d later spans did not fit and are not in it: the first steps are, as far as "
                                      "%d spans of a rank go",
                                      trace.num_dropped, core::Trace::kDefaultCapacity));
  }
}

}  // namespace conclave::launch
