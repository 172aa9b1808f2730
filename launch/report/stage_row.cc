// SPDX-License-Identifier: Apache-2.0
#include "launch/report/stage_row.h"

#include <functional>

#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/model/model_graph.h"
#include "launch/metrics.h"
#include "launch/model_loading.h"
#include "launch/run_folder.h"

namespace conclave::launch {
namespace {

double NumberAt(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : 0;
}

absl::StatusOr<core::ModelGraph> GraphOf(const std::string& dir, const core::Config& config, StageRow& row) {
  ASSIGN_OR_RETURN(const std::string folder, FindModelFolder(dir));
  ASSIGN_OR_RETURN(const FolderConfig model, ReadFolderConfig(folder));
  core::ModelGraph graph = core::MakeModelGraph(model.model, config.data.sequence_length);
  row.model_type = model.model.model_type;
  row.params = graph.params();
  row.active_params = graph.active_params();
  return graph;
}

absl::Status ForEachRecord(const std::string& path, const std::function<void(const nlohmann::json&)>& use) {
  return ForEachLine(path, [&](const std::string& text, int64_t number) -> absl::Status {
    ASSIGN_OR_RETURN(const nlohmann::json line, core::ParseJson(text, {.name = path, .first_line = number},
                                                                {.checks = core::JsonChecks::kGrammar}));
    use(line);
    return absl::OkStatus();
  });
}

// Of the samples that a teacher drew before its student began, and of its passes beside it. What is lost with a
// teacher's folder is not counted.
absl::Status AddTeacherCosts(const core::Config& config, StageRow& row) {
  StageRow unused;
  const absl::StatusOr<core::ModelGraph> teacher = GraphOf(config.teacher, config, unused);
  if (!teacher.ok()) return absl::OkStatus();
  const RunFolder folder = RunFolder::At(config.run.dir);
  const double per_token = teacher->ForwardFlopsPerToken();
  if (config.LearnsDistributions()) {
    RETURN_IF_ERROR(ForEachRecord(
        folder.MetricsPath(), [&](const nlohmann::json& line) { row.flops += per_token * NumberAt(line, "tokens"); }));
  }
  return ForEachRecord(folder.TeacherMetricsPath(), [&](const nlohmann::json& line) {
    row.seconds += NumberAt(line, "seconds");
    row.flops += per_token * NumberAt(line, "samples") * NumberAt(line, "length");
  });
}

absl::Status AddCosts(const core::Config& config, StageRow& row) {
  ASSIGN_OR_RETURN(const core::ModelGraph graph,
                   GraphOf(config.stage == "reject" ? config.model.from : config.run.dir, config, row));
  RETURN_IF_ERROR(ForEachRecord(RunFolder::At(config.run.dir).MetricsPath(), [&](const nlohmann::json& line) {
    row.seconds += NumberAt(line, "seconds");
    // A prompt is read once for its group.
    const double generated = NumberAt(line, "samples") * NumberAt(line, "length") +
                             NumberAt(line, "groups") * NumberAt(line, "prompt_length");
    row.flops += graph.TrainFlopsPerToken() * NumberAt(line, "tokens") + graph.ForwardFlopsPerToken() * generated;
  }));
  return config.stage == "distill" ? AddTeacherCosts(config, row) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> IsDone(const core::Config& config) {
  if (config.stage == "reject") return core::FileExists(RunFolder::At(config.run.dir).RejectPath());
  ASSIGN_OR_RETURN(const auto steps, core::ListSteps(RunFolder::At(config.run.dir).CheckpointsPath()));
  return !steps.empty() && steps.front().first >= config.train.steps;
}

absl::StatusOr<std::vector<StageRow>> ReadRows(const core::Recipe& recipe) {
  std::vector<StageRow> rows;
  for (const core::StagePlan& plan : recipe.stages) {
    StageRow& row = rows.emplace_back(StageRow{.name = plan.name, .from = plan.from, .control = plan.control});
    ASSIGN_OR_RETURN(row.done, IsDone(plan.config));
    if (!row.done) continue;
    ASSIGN_OR_RETURN(row.scores, ReadScores(plan.config));
    RETURN_IF_ERROR(AddCosts(plan.config, row));
  }
  return rows;
}

}  // namespace conclave::launch
