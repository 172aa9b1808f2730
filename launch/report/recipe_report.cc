// SPDX-License-Identifier: Apache-2.0
#include "launch/report/recipe_report.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include <cmath>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "launch/metrics.h"
#include "launch/report/report_page.h"
#include "launch/run_folder.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

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
  return line.TakeObject();
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
  RETURN_IF_ERROR(core::ReplaceTextFile(folder.ConfigPath(), core::WriteRecipe(recipe)));
  RETURN_IF_ERROR(core::ReplaceTextFile(folder.MetricsPath(), metrics));
  RETURN_IF_ERROR(core::ReplaceTextFile(recipe.dir + "/summary.json", SummaryJson(rows)));
  return StorePage(recipe);
}

}  // namespace conclave::launch
