// SPDX-License-Identifier: Apache-2.0
#include "launch/report/stage_history.h"

#include <sys/stat.h>

#include <cmath>

#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "launch/metrics.h"
#include "launch/run_folder.h"

namespace conclave::launch {
namespace {

constexpr const char* kFigures[] = {"loss",   "validation_loss", "reward",        "pass_at_1",
                                    "length", "entropy",         "load_imbalance"};

double NumberAt(const nlohmann::json& line, const std::string& key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : std::nan("");
}

void AddFigures(const nlohmann::json& line, StageHistory& history) {
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer()) return;
  history.last_step = step->get<int64_t>();
  for (const char* name : kFigures) {
    const double value = NumberAt(line, name), error = NumberAt(line, std::string(name) + "_stderr");
    if (!line.contains(name)) continue;
    history.figures[name].push_back(
        {.x = static_cast<double>(history.last_step), .y = value, .error = std::isfinite(error) ? error : 0});
  }
}

}  // namespace

const Series& StageHistory::Figure(std::string_view name) const {
  static const Series kNone;
  const auto found = figures.find(std::string(name));
  return found == figures.end() ? kNone : found->second;
}

absl::StatusOr<StageHistory> ReadHistory(const core::Config& config, const std::optional<StageScores>& scores) {
  StageHistory history;
  const RunFolder folder = RunFolder::At(config.run.dir);
  const std::string path = folder.MetricsPath();
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) history.last_written = status.st_mtime;
  RETURN_IF_ERROR(ForEachLine(path, [&](const std::string& text, int64_t number) -> absl::Status {
    ASSIGN_OR_RETURN(const nlohmann::json line, core::ParseJson(text, {.name = path, .first_line = number},
                                                                {.checks = core::JsonChecks::kGrammar}));
    if (line.is_object()) AddFigures(line, history);
    return absl::OkStatus();
  }));
  ASSIGN_OR_RETURN(history.samples, ReadSampleLog(folder.SamplesPath()));
  // The evaluation of the last step draws what the final one does, and may have another judge: one of them is shown.
  if (!scores || scores->samples.empty()) return history;
  if (!history.samples.empty() && history.samples.back().step == history.last_step) history.samples.pop_back();
  history.samples.push_back({.step = history.last_step, .samples = scores->samples});
  return history;
}

}  // namespace conclave::launch
