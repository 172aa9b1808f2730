// SPDX-License-Identifier: Apache-2.0
#include "launch/recipe_report.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include <cmath>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/model/model_graph.h"
#include "launch/metrics.h"
#include "launch/model_loading.h"
#include "launch/run_folder.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

double NumberAt(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : 0;
}

// Calls `use` with each whole line of a file and its number; no file has none.
template <class Use>
absl::Status ForEachLine(const std::string& path, Use use) {
  if (!core::FileExists(path)) return absl::OkStatus();
  std::ifstream file(path, std::ios::binary);
  if (!file) return core::FileError(errno, "cannot open", path);
  std::string line;
  for (int64_t number = 1; std::getline(file, line) && !file.eof(); ++number) RETURN_IF_ERROR(use(line, number));
  return absl::OkStatus();
}

absl::Status AddCosts(const core::Config& config, StageRow& row) {
  ASSIGN_OR_RETURN(const std::string folder,
                   FindModelFolder(config.stage == "reject" ? config.model.from : config.run.dir));
  ASSIGN_OR_RETURN(const FolderConfig model, ReadFolderConfig(folder));
  const core::ModelGraph graph = core::MakeModelGraph(model.model, config.data.sequence_length);
  const std::string path = RunFolder::At(config.run.dir).MetricsPath();
  return ForEachLine(path, [&](const std::string& text, int64_t number) -> absl::Status {
    ASSIGN_OR_RETURN(const nlohmann::json line, core::ParseJson(text, {.name = path, .first_line = number},
                                                                {.checks = core::JsonChecks::kGrammar}));
    row.seconds += NumberAt(line, "seconds");
    // A prompt is read once for its group.
    const double generated = NumberAt(line, "samples") * NumberAt(line, "length") +
                             NumberAt(line, "groups") * NumberAt(line, "prompt_length");
    row.flops += graph.TrainFlopsPerToken() * NumberAt(line, "tokens") + graph.ForwardFlopsPerToken() * generated;
    return absl::OkStatus();
  });
}

// Stage and those that start from it, below and further in.
void Draw(const std::vector<StageRow>& rows, const StageRow& row, std::string_view present, const std::string& indent,
          std::string& picture) {
  const std::string name = indent + row.name;
  std::string state;
  if (row.name == present) {
    state = "<- now";
  } else if (row.done) {
    state = row.scores ? absl::StrFormat("pass@1 %.3f", row.scores->pass_at_1.mean) : "done";
  }
  std::string line =
      absl::StrFormat("%c %-32s%-9s%s", row.name == present ? '>' : ' ', name, row.control ? "control" : "", state);
  line.erase(line.find_last_not_of(' ') + 1);
  picture += line + "\n";
  for (const StageRow& next : rows) {
    if (next.from == row.name) Draw(rows, next, present, indent + "   ", picture);
  }
}

std::string TableLine(const StageRow& row) {
  const std::string costs =
      absl::StrFormat("%9s %9s", DurationText(row.seconds), absl::StrFormat("%.1f", row.flops / 1e9));
  if (!row.scores) return absl::StrFormat("%-20s %92s\n", row.name, costs);
  const auto text = [](const rl::Estimate& estimate) {
    return absl::StrFormat("%.3f +- %.3f", estimate.mean, estimate.error);
  };
  const StageScores& scores = *row.scores;
  return absl::StrFormat("%-20s %14s %14s %14s %14s %12s %s\n", row.name, text(scores.pass_at_1),
                         text(scores.pass_at_8), text(scores.majority), text(scores.greedy),
                         absl::StrFormat("%.1f +- %.1f", scores.length.mean, scores.length.error), costs);
}

std::string ToJson(const StageRow& row) {
  const StageScores scores = row.scores.value_or(StageScores{});
  const auto number = [&row](double value) { return row.scores ? value : std::nan(""); };  // null
  JsonLine line;
  line.Add("name", row.name);
  line.Add("pass_at_1", number(scores.pass_at_1.mean));
  line.Add("stderr", number(scores.pass_at_1.error));
  line.Add("pass_at_8", number(scores.pass_at_8.mean));
  line.Add("greedy", number(scores.greedy.mean));
  line.Add("length", number(scores.length.mean));
  line.Add("seconds", row.seconds);
  line.Add("flops", row.flops);
  std::string text = line.Take();
  text.pop_back();  // the end of the line
  return text;
}

absl::Status Replace(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  RETURN_IF_ERROR(core::WriteTextFile(temporary, text).status());
  return core::RenamePath(temporary, path);
}

absl::StatusOr<std::string> AllMetrics(const core::Recipe& recipe) {
  std::string all;
  for (const core::StagePlan& plan : recipe.stages) {
    RETURN_IF_ERROR(
        ForEachLine(RunFolder::At(plan.config.run.dir).MetricsPath(), [&](const std::string& line, int64_t) {
          if (line.starts_with('{')) all += absl::StrFormat("{\"stage\": \"%s\", %s\n", plan.name, line.substr(1));
          return absl::OkStatus();
        }));
  }
  return all;
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

std::string RecipePicture(const std::vector<StageRow>& rows, std::string_view present) {
  std::string picture;
  for (const StageRow& row : rows) {
    if (row.from.empty()) Draw(rows, row, present, "", picture);
  }
  return picture;
}

std::string RecipeTable(const std::vector<StageRow>& rows) {
  std::string lines[2];
  for (const StageRow& row : rows) {
    if (row.done) lines[row.control ? 1 : 0] += TableLine(row);
  }
  if (lines[0].empty() && lines[1].empty()) return "";
  return absl::StrFormat("%-20s %14s %14s %14s %14s %12s %9s %9s\n", "stage", "pass@1", "pass@8", "maj@8", "greedy",
                         "length", "time", "GFLOP") +
         lines[0] + (lines[1].empty() ? "" : "controls\n" + lines[1]);
}

std::string SummaryJson(const std::vector<StageRow>& rows) {
  std::string lists[2];
  for (const StageRow& row : rows) {
    if (!row.done) continue;
    std::string& list = lists[row.control ? 1 : 0];
    list += (list.empty() ? "\n    " : ",\n    ") + ToJson(row);
  }
  return absl::StrFormat("{\n  \"stages\": [%s],\n  \"controls\": [%s]\n}\n", lists[0], lists[1]);
}

absl::Status StoreReport(const core::Recipe& recipe) {
  const RunFolder folder = RunFolder::At(recipe.dir);
  const std::string path = recipe.dir + "/.lock";
  const core::FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock.get() < 0) return core::FileError(errno, "cannot open", path);
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return core::FileError(errno, "cannot lock", path);
  }
  // Read behind the lock: who comes last has seen what all others have done.
  ASSIGN_OR_RETURN(const std::vector<StageRow> rows, ReadRows(recipe));
  ASSIGN_OR_RETURN(const std::string metrics, AllMetrics(recipe));
  RETURN_IF_ERROR(Replace(folder.ConfigPath(), core::WriteRecipe(recipe)));
  RETURN_IF_ERROR(Replace(folder.MetricsPath(), metrics));
  return Replace(recipe.dir + "/summary.json", SummaryJson(rows));
}

}  // namespace conclave::launch
