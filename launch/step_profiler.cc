// SPDX-License-Identifier: Apache-2.0
#include "launch/step_profiler.h"

#include <stdlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/device/median_seconds.h"
#include "launch/metrics.h"

namespace conclave::launch {
namespace {

constexpr int64_t kWarmUpSteps = 3;       // scratch grows, caches and the clock settle
constexpr double kCopyBytes = 128 << 20;  // more than caches hold
constexpr std::string_view kOutside = "outside of operations";

// Columns for FLOPs and bytes, each with the share of what the device can do; blank where nothing is known.
std::string SpeedText(const StepProfile& profile, double seconds, double flops, double bytes) {
  const auto columns = [seconds](double amount, double best) {
    if (amount == 0 || seconds == 0) return std::string(18, ' ');
    return absl::StrFormat("%10.1f %5.0f %%", 1e-9 * amount / seconds, 100 * amount / seconds / best);
  };
  return columns(flops, profile.peak_flops) + columns(bytes, profile.copy_bytes);
}

std::string RowText(const StepProfile& profile, std::string_view indent, const StepProfile::Row& row) {
  std::string text = absl::StrFormat("%-31s", absl::StrFormat("%s%s", indent, row.name));
  text += row.calls > 0 ? absl::StrFormat("%6.0f", row.calls) : std::string(6, ' ');
  text += absl::StrFormat("%10.3f %6.1f %%", 1e3 * row.seconds, 100 * row.share);
  text += SpeedText(profile, row.seconds, row.flops, row.bytes);
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

StepProfile::Row Sum(std::string_view name, const std::vector<StepProfile::Row>& rows) {
  StepProfile::Row sum{.group = {}, .name = name};
  bool bytes_known = true;  // of every row
  for (const StepProfile::Row& row : rows) {
    sum.calls += row.calls;
    sum.seconds += row.seconds;
    sum.flops += row.flops;
    sum.bytes += row.bytes;
    sum.share += row.share;
    bytes_known = bytes_known && row.bytes > 0;
  }
  if (!bytes_known) sum.bytes = 0;
  return sum;
}

}  // namespace

StepProfiler::StepProfiler(core::OperationProfile& operations, core::Device& device, core::DType dtype,
                           int64_t num_steps)
    : operations_(operations), device_(device), dtype_(dtype), num_steps_(num_steps), warm_up_left_(kWarmUpSteps) {
  steps_.reserve(static_cast<size_t>(num_steps));
}

void StepProfiler::BeginStep() {
  if (!Complete()) peak_before_ = device_.SamplePeakFlops(dtype_);
  operations_.fill({});
  step_start_ = std::clock();
}

void StepProfiler::EndStep(int64_t step, double seconds, double data_seconds) {
  if (Complete() || warm_up_left_-- > 0) return;
  if (steps_.empty()) first_step_ = step;
  const double processors = static_cast<double>(std::clock() - step_start_) / CLOCKS_PER_SEC / seconds;
  steps_.push_back({.operations = operations_,
                    .seconds = seconds,
                    .data_seconds = data_seconds,
                    .processors = processors,
                    .peak_flops = peak_before_});
}

template <class Figure>
double StepProfiler::Median(Figure figure) const {
  std::vector<double> values;
  for (const Step& step : steps_) values.push_back(figure(step));
  return core::Median(std::move(values));
}

std::vector<StepProfile::Row> StepProfiler::Rows() const {
  std::vector<StepProfile::Row> rows;
  for (size_t group = 0; group < core::kNumOperationGroups; ++group) {
    const size_t begin = rows.size();
    for (size_t i = 0; i < core::kNumOperations; ++i) {
      const auto operation = static_cast<core::Operation>(i);
      if (core::GroupOf(operation) != static_cast<core::OperationGroup>(group)) continue;
      const auto median = [&](auto field) {
        return Median([&](const Step& step) { return static_cast<double>(step.operations[i].*field); });
      };
      StepProfile::Row row{.group = core::Name(core::GroupOf(operation)), .name = core::Name(operation)};
      row.calls = median(&core::OperationRecord::calls);
      if (row.calls == 0) continue;
      row.seconds = median(&core::OperationRecord::seconds);
      row.flops = median(&core::OperationRecord::flops);
      row.bytes = median(&core::OperationRecord::bytes);
      rows.push_back(row);
    }
    std::stable_sort(rows.begin() + static_cast<ptrdiff_t>(begin), rows.end(),
                     [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  }
  const double data = Median([](const Step& step) { return step.data_seconds; });
  const double loop = Median([](const Step& step) {
    double inside = step.data_seconds;
    for (const core::OperationRecord& record : step.operations) inside += record.seconds;
    return step.seconds - inside;
  });
  rows.push_back({.group = kOutside, .name = "waiting for the batch", .seconds = data});
  rows.push_back({.group = kOutside, .name = "loop", .seconds = loop});
  const double total = Sum({}, rows).seconds;
  for (StepProfile::Row& row : rows) row.share = row.seconds / total;
  return rows;
}

StepProfile StepProfiler::Summarize() const {
  CHECK(!steps_.empty());
  const auto by_time = [](const Step& a, const Step& b) { return a.seconds < b.seconds; };
  double load = 0;
  getloadavg(&load, 1);
  const auto [fastest, slowest] = std::minmax_element(steps_.begin(), steps_.end(), by_time);
  return {.rows = Rows(),
          .first_step = first_step_,
          .num_steps = num_measured(),
          .fastest_step = fastest->seconds,
          .median_step = Median([](const Step& step) { return step.seconds; }),
          .slowest_step = slowest->seconds,
          .dtype = dtype_,
          .processors = Median([](const Step& step) { return step.processors; }),
          .machine_load = load,
          .peak_flops = device_.MeasurePeakFlops(dtype_),
          .peak_between = Median([](const Step& step) { return step.peak_flops; }),
          .copy_bytes = kCopyBytes / device_.MeasureCopySeconds(kCopyBytes)};
}

std::string ProfileTable(const StepProfile& profile) {
  std::string text = absl::StrFormat(
      "profile of steps %d to %d: median %.1f ms (%.1f to %.1f); at best %.1f GFLOP/s in %s, copies %.1f GB/s\n",
      profile.first_step, profile.first_step + profile.num_steps - 1, 1e3 * profile.median_step,
      1e3 * profile.fastest_step, 1e3 * profile.slowest_step, 1e-9 * profile.peak_flops, core::Name(profile.dtype),
      1e-9 * profile.copy_bytes);
  text += absl::StrFormat("processors that a step had: %.2f; load of the machine in the last minute: %.2f\n",
                          profile.processors, profile.machine_load);
  text += absl::StrFormat("%-31s%6s%10s%9s%10s%8s%10s%8s\n", "operation", "calls", "ms", "share", "GFLOP/s", "of peak",
                          "GB/s", "of copy");
  for (auto begin = profile.rows.begin(); begin != profile.rows.end();) {
    const auto end =
        std::find_if(begin, profile.rows.end(), [&](const auto& row) { return row.group != begin->group; });
    text += RowText(profile, "", Sum(begin->group, {begin, end}));
    for (; begin != end; ++begin) text += RowText(profile, "  ", *begin);
  }
  const StepProfile::Row step = Sum("step", profile.rows);
  text += RowText(profile, "", step);
  text += absl::StrFormat(
      "Right before each step multiply-adds in registers reached %.1f GFLOP/s, %.0f %% of the peak\n"
      "(where it is less than all, others use the cores, too); a step does %.0f %% of that.\n",
      1e-9 * profile.peak_between, 100 * profile.peak_between / profile.peak_flops,
      100 * step.flops / step.seconds / profile.peak_between);
  return text + "Each time is a median over the steps; more than 100 % of a copy: data that a cache still held.";
}

std::string ProfileLines(const StepProfile& profile) {
  JsonLine head;
  head.Add("first_step", profile.first_step);
  head.Add("steps", profile.num_steps);
  head.Add("step_seconds", profile.median_step);
  head.Add("fastest_step_seconds", profile.fastest_step);
  head.Add("slowest_step_seconds", profile.slowest_step);
  head.Add("precision", core::Name(profile.dtype));
  head.Add("processors", profile.processors);
  head.Add("machine_load", profile.machine_load);
  head.Add("peak_flops_per_second", profile.peak_flops);
  head.Add("peak_between_flops_per_second", profile.peak_between);
  head.Add("copy_bytes_per_second", profile.copy_bytes);
  std::string lines = head.Take();
  for (const StepProfile::Row& row : profile.rows) {
    JsonLine line;
    line.Add("group", row.group);
    line.Add("operation", row.name);
    line.Add("calls", row.calls);
    line.Add("seconds", row.seconds);
    line.Add("share", row.share);
    if (row.flops > 0) {
      line.Add("flops", row.flops);
      line.Add("share_of_peak", row.flops / row.seconds / profile.peak_flops);
    }
    if (row.bytes > 0) {
      line.Add("bytes", row.bytes);
      line.Add("share_of_copy", row.bytes / row.seconds / profile.copy_bytes);
    }
    lines += line.Take();
  }
  return lines;
}

}  // namespace conclave::launch
