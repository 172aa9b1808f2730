// SPDX-License-Identifier: Apache-2.0
// Tables: what stages solve, what they cost, and the commands that make each row again.
#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "launch/run_folder.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

std::string EstimateCell(const rl::Estimate& estimate, int decimals) {
  return absl::StrFormat("<td class=\"number\">%.*f <small>&#177; %.*f</small></td>", decimals, estimate.mean, decimals,
                         estimate.error);
}

std::string ScoreRow(const StageRow& row) {
  const StageScores& scores = *row.scores;
  return absl::StrFormat("<tr><th>%s</th>", Escaped(row.name)) + EstimateCell(scores.pass_at_1, 3) +
         EstimateCell(scores.pass_at_8, 3) + EstimateCell(scores.majority, 3) + EstimateCell(scores.greedy, 3) +
         EstimateCell(scores.length, 1) + "</tr>\n";
}

std::string BarCell(double share, const std::string& text) {
  return absl::StrFormat("<td class=\"bars\"><div style=\"width:%.1f%%\"></div><span>%s</span></td>", 100 * share,
                         text);
}

// `text` as one word of a shell.
std::string ShellWord(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + "'";
}

// What `conclave eval` is told so that it measures what the row says.
std::string EvaluationCommand(const core::Config& config) {
  std::vector<std::string> tasks;
  for (const core::TaskConfig& task : config.tasks) tasks.push_back(task.name);
  std::string command =
      absl::StrFormat("conclave eval %s --tasks %s --prompts %d --samples 8 --temperature %g --max-tokens %d",
                      ShellWord(config.run.dir), absl::StrJoin(tasks, ","), config.eval.prompts,
                      config.eval.temperature, config.rollout.max_tokens);
  // The judge of all rows, whatever a stage was rewarded for.
  const core::RewardConfig judge;
  const bool is_judged_so =
      config.reward.empty() || (config.reward[0].name == "math" && config.reward[0].fallback == judge.fallback);
  if (!is_judged_so) command += " 'reward=[{name: math}]'";
  return command;
}

}  // namespace

std::string ScoreSection(const Report& report) {
  std::string stages, controls;
  for (const StageRow& row : report.rows) {
    if (row.scores) (row.control ? controls : stages) += ScoreRow(row);
  }
  if (stages.empty() && controls.empty()) return "";
  if (!controls.empty()) controls = "<tr class=\"group\"><th colspan=\"6\">controls</th></tr>\n" + controls;
  return Section("What each stage solves",
                 "<div class=\"scroll\"><table><tr><th>stage</th><th class=\"number\">pass@1</th><th class=\"number\">"
                 "pass@8</th><th class=\"number\">maj@8</th><th class=\"number\">greedy</th><th class=\"number\">tokens"
                 "</th></tr>\n" +
                     stages + controls +
                     "</table></div>\n<p class=\"note\">The same held-out problems for all, 8 samples of each: some of "
                     "1 or of 8 is right, most agree on the right answer, the likeliest tokens are right; mean length "
                     "of a response. &#177; is the standard error over problems.</p>\n");
}

std::string CostSection(const Report& report) {
  double most_seconds = 0, most_flops = 0;
  for (const StageRow& row : report.rows) {
    most_seconds = std::max(most_seconds, row.seconds);
    most_flops = std::max(most_flops, row.flops);
  }
  // Of one run the headline has them.
  if (most_seconds == 0 || report.recipe.IsOneRun()) return "";
  std::string rows;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    const StageRow& row = report.rows[stage];
    if (!row.done) continue;
    rows += absl::StrFormat("<tr><th>%s</th>", Escaped(report.NameOf(stage))) +
            BarCell(row.seconds / most_seconds, DurationText(row.seconds)) +
            BarCell(most_flops > 0 ? row.flops / most_flops : 0, FlopText(row.flops)) + "</tr>\n";
  }
  return Section(
      "Time and compute",
      "<div class=\"scroll\"><table class=\"costs\"><tr><th>stage</th><th>time of its steps</th><th>FLOPs of "
      "updates and samples</th></tr>\n" +
          rows + "</table></div>\n");
}

std::string CommandSection(const Report& report) {
  std::string lines;
  for (const core::StagePlan& plan : report.recipe.stages) {
    const bool measured = std::any_of(report.rows.begin(), report.rows.end(), [&](const StageRow& row) {
      return row.name == plan.name && row.scores.has_value();
    });
    if (measured) lines += EvaluationCommand(plan.config) + "\n";
  }
  const std::string train = absl::StrFormat("conclave train %s run.dir=ELSEWHERE\n",
                                            ShellWord(RunFolder::At(report.recipe.dir).ConfigPath()));
  std::string body = "<p>All of it, in another folder, to the same bits:</p><pre>" + Escaped(train) + "</pre>\n";
  if (!lines.empty()) body += "<p>The row of each stage, from its folder:</p><pre>" + Escaped(lines) + "</pre>\n";
  return Section("Make it again", body);
}

std::string SettingsSection(const Report& report) {
  return Section("Settings", "<details><summary>config.yaml, resolved</summary><pre>" +
                                 Escaped(core::WriteRecipe(report.recipe)) + "</pre></details>\n");
}

}  // namespace conclave::launch
