// SPDX-License-Identifier: Apache-2.0
#include "launch/verify.h"

#include <stdio.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/status_macros.h"
#include "launch/model_loading.h"
#include "launch/model_values.h"
#include "launch/policy_reference.h"
#include "launch/reference_file.h"
#include "launch/usage_error.h"
#include "launch/value_difference.h"
#include "launch/verify_policy.h"

namespace conclave::launch {
namespace {

// f32 and f64 PyTorch differ by 1e-6 of a tensor's largest magnitude; the order of sums may cost a little more.
constexpr double kToleranceF32 = 2e-5, kToleranceBf16 = 5e-2;
// Single elements of Adam's first steps are rounding noise: parameters after steps are compared in norm.
constexpr double kToleranceAfterF32 = 1e-3, kToleranceAfterBf16 = 5e-2;
constexpr double kToleranceExpertsBf16 = 0.1;  // share of choices that near ties may turn
constexpr size_t kWorstShown = 5;              // of gradients, and of parameters

struct Row {
  std::string name, shape;
  std::string problem = {};  // instead of numbers
  double largest_difference = 0, relative = 0, tolerance = 0;
  bool Ok() const { return problem.empty() && relative <= tolerance; }  // false for NaN
};

bool IsAfter(const std::string& name) { return name.starts_with("after."); }
bool IsExperts(const std::string& name) { return name.starts_with("experts."); }
bool IsGradient(const std::string& name) { return name.starts_with("grad."); }

double ToleranceOf(const std::string& name, const VerifyOptions& options) {
  const bool bf16 = options.precision == "bf16";
  if (IsExperts(name)) return bf16 ? kToleranceExpertsBf16 : 0;
  if (IsAfter(name)) return bf16 ? kToleranceAfterBf16 : kToleranceAfterF32;
  return options.tolerance > 0 ? options.tolerance : bf16 ? kToleranceBf16 : kToleranceF32;
}

// The share of entries that differ.
void CompareIntegers(const std::vector<int32_t>& ours, const std::vector<float>& theirs, Row& row) {
  double differing = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
    row.largest_difference = std::max(row.largest_difference, difference);
    differing += difference != 0;
  }
  row.relative = ours.empty() ? 0 : differing / static_cast<double>(ours.size());
}

void CompareFloats(const std::vector<float>& ours, const std::vector<float>& theirs, Row& row) {
  const ValueDifference difference = DifferenceOf(ours, theirs);
  row.largest_difference = difference.largest;
  row.relative = difference.relative;
  if (!IsAfter(row.name)) return;
  double squared_difference = 0, squared_norm = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double apart = static_cast<double>(ours[i]) - static_cast<double>(theirs[i]);
    squared_difference += apart * apart;
    squared_norm += static_cast<double>(theirs[i]) * static_cast<double>(theirs[i]);
  }
  row.relative = RatioOf(std::sqrt(squared_difference), std::sqrt(squared_norm));
}

absl::StatusOr<Row> Compare(const Reference& reference, const core::SafetensorsEntry& entry,
                            const std::map<std::string, NamedValue>& values, const VerifyOptions& options) {
  Row row{.name = entry.name, .shape = "[" + absl::StrJoin(entry.shape, ", ") + "]"};
  row.tolerance = ToleranceOf(entry.name, options);
  const auto found = values.find(entry.name);
  if (found == values.end()) {
    row.problem = "this name is not understood, or the model has no such tensor";
    return row;
  }
  const NamedValue& ours = found->second;
  if (ours.shape != entry.shape) {
    row.problem = "our shape is [" + absl::StrJoin(ours.shape, ", ") + "]";
    return row;
  }
  int64_t elements = 1;
  for (const int64_t size : entry.shape) elements *= size;
  std::vector<float> theirs(static_cast<size_t>(elements));
  RETURN_IF_ERROR(reference.file.ReadFloats(entry, 0, elements, theirs.data()));
  if (const auto* integers = std::get_if<std::vector<int32_t>>(&ours.data)) {
    CompareIntegers(*integers, theirs, row);
  } else {
    CompareFloats(std::get<std::vector<float>>(ours.data), theirs, row);
  }
  return row;
}

void PrintRow(const Row& row) {
  const std::string numbers = row.problem.empty()
                                  ? absl::StrFormat("%10.2e %10.2e %10.1e  %s", row.largest_difference, row.relative,
                                                    row.tolerance, row.Ok() ? "ok" : "FAIL")
                                  : absl::StrFormat("%s  %s", row.problem, row.Ok() ? "" : "FAIL");
  fputs(absl::StrFormat("%-58s %-16s %s\n", row.name, row.shape, numbers).c_str(), stdout);
}

// The worst few and everything that fails; the rest in one line.
void PrintGroup(const char* title, std::vector<Row> rows, bool all) {
  if (rows.empty()) return;
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.Ok() != b.Ok() ? b.Ok() : a.relative > b.relative; });
  size_t shown = 0;
  for (; shown < rows.size() && (all || shown < kWorstShown || !rows[shown].Ok()); ++shown) PrintRow(rows[shown]);
  if (shown == rows.size()) return;
  fputs(absl::StrFormat("%-58s %-16s %10s %10.2e %10s  ok\n",
                        absl::StrFormat("... %d more %s, at most", rows.size() - shown, title), "", "",
                        rows[shown].relative, "")
            .c_str(),
        stdout);
}

bool PrintTable(const std::vector<Row>& rows, bool all) {
  std::vector<Row> gradients, parameters;
  fputs(absl::StrFormat("%-58s %-16s %10s %10s %10s\n", "name", "shape", "largest", "relative", "tolerance").c_str(),
        stdout);
  int64_t failed = 0;
  for (const Row& row : rows) {
    failed += !row.Ok();
    if (IsGradient(row.name)) {
      gradients.push_back(row);
    } else if (IsAfter(row.name)) {
      parameters.push_back(row);
    } else {
      PrintRow(row);
    }
  }
  PrintGroup("gradients", gradients, all);
  PrintGroup("parameters", parameters, all);
  fputs((failed == 0 ? absl::StrFormat("all %d tensors within tolerance\n", rows.size())
                     : absl::StrFormat("%d of %d tensors differ\n", failed, rows.size()))
            .c_str(),
        stdout);
  return failed == 0;
}

absl::Status Dump(const Reference& reference, const std::map<std::string, NamedValue>& values,
                  const std::string& path) {
  std::vector<core::SafetensorsWriteEntry> entries;
  for (const auto& [name, value] : values) {
    const auto* integers = std::get_if<std::vector<int32_t>>(&value.data);
    const core::DType dtype = integers ? core::DType::kI32 : core::DType::kF32;
    const void* data =
        integers ? static_cast<const void*>(integers->data()) : std::get<std::vector<float>>(value.data).data();
    entries.push_back({name, value.shape, data, dtype, dtype});
  }
  std::vector<std::vector<int64_t>> inputs;
  inputs.reserve(2);  // entries point into it
  for (const char* name : {"input_ids", "labels"}) {
    const core::SafetensorsEntry& entry = *reference.file.Find(name);
    inputs.emplace_back(static_cast<size_t>(entry.end - entry.begin) / 8);
    RETURN_IF_ERROR(reference.file.ReadBytes(entry, 0, entry.end - entry.begin, inputs.back().data()));
    entries.push_back({name, entry.shape, inputs.back().data(), core::DType::kI64, core::DType::kI64});
  }
  return core::WriteSafetensors(path, entries, reference.file.metadata()).status();
}

}  // namespace

absl::StatusOr<ExitCode> Verify(const VerifyOptions& options) {
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(dir));
  RETURN_IF_ERROR(ChoosePrecision(options.precision, config).status());
  ASSIGN_OR_RETURN(const core::SafetensorsFile file, core::SafetensorsFile::Open(options.reference));
  if (IsPolicyReference(file)) {
    if (!options.dump.empty()) return UsageError("--dump: of policy losses nothing is written");
    ASSIGN_OR_RETURN(const bool same, VerifyPolicies(dir, config.model, options, ToleranceOf("rl.", options)));
    return same ? ExitCode::kDone : ExitCode::kFailed;
  }
  ASSIGN_OR_RETURN(const Reference reference, Reference::Open(options.reference, config.model.vocab_size));
  if (reference.batch.length > config.model.max_position_embeddings) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d tokens per row, the model takes %d", options.reference,
                                                      reference.batch.length, config.model.max_position_embeddings));
  }
  ASSIGN_OR_RETURN(const auto values, ComputeValues(dir, config.model, reference, options));
  std::vector<Row> rows;
  for (const core::SafetensorsEntry& entry : reference.file.entries()) {
    if (entry.name == "input_ids" || entry.name == "labels") continue;
    ASSIGN_OR_RETURN(Row row, Compare(reference, entry, values, options));
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.name < b.name; });
  const bool ok = PrintTable(rows, options.all);
  if (!options.dump.empty()) RETURN_IF_ERROR(Dump(reference, values, options.dump));
  return ok ? ExitCode::kDone : ExitCode::kFailed;
}

}  // namespace conclave::launch
