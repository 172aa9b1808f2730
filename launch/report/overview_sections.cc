// SPDX-License-Identifier: Apache-2.0
// What a reader wants first: what was run, whether it worked, and the picture of its stages.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "launch/report/comparison.h"
#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

std::string KindText(const std::string& stage) {
  if (stage == "pretrain") return "pretraining";
  if (stage == "sft") return "fine-tuning";
  if (stage == "grpo") return "reinforcement learning";
  if (stage == "reject") return "rejection sampling";
  return "distillation";
}

std::string Fact(std::string_view name, const std::string& value) {
  if (value.empty()) return "";
  constexpr size_t kWide = 40;  // for a row of its own
  return absl::StrFormat("<div%s><dt>%s</dt><dd>%s</dd></div>\n", value.size() > kWide ? " class=\"wide\"" : "", name,
                         Escaped(value));
}

std::string FolderName(std::string_view dir) {
  while (dir.size() > 1 && dir.ends_with('/')) dir.remove_suffix(1);
  return std::string(dir.substr(dir.find_last_of('/') + 1));  // none: all of it
}

std::string TimeText(int64_t seconds) {
  const time_t time = seconds;
  struct tm utc = {};
  if (seconds == 0 || ::gmtime_r(&time, &utc) == nullptr) return "";
  return absl::StrFormat("%04d-%02d-%02d %02d:%02d", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
                         utc.tm_min);
}

// Every size of model once, in the order of stages.
std::string ModelsText(const std::vector<StageRow>& rows) {
  std::vector<std::string> models;
  for (const StageRow& row : rows) {
    if (row.params == 0) continue;
    std::string text = absl::StrFormat("%s, %s parameters", row.model_type, CountText(row.params));
    if (row.active_params < row.params) text += absl::StrFormat(", %s active per token", CountText(row.active_params));
    if (std::find(models.begin(), models.end(), text) == models.end()) models.push_back(text);
  }
  return absl::StrJoin(models, "; ");
}

// What is asked: tasks and files, each once.
std::string ProblemsText(const core::Recipe& recipe) {
  std::vector<std::string> names;
  const auto add = [&names](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const core::StagePlan& plan : recipe.stages) {
    for (const core::TaskConfig& task : plan.config.tasks) add(absl::StrFormat("%s, level %d", task.name, task.level));
    for (const core::SourceConfig& source : plan.config.data.prompts) {
      if (source.task.empty()) add(source.path);
    }
  }
  return absl::StrJoin(names, "; ");
}

std::string ProgressText(const Report& report, size_t stage) {
  const StageRow& row = report.rows[stage];
  if (row.done) return "done";
  const int64_t step = report.histories[stage].last_step;
  if (step == 0) return "not begun";
  if (report.recipe.stages[stage].config.stage == "reject") return "under way";
  return absl::StrFormat("step %s of %s", CountText(step), CountText(report.recipe.stages[stage].config.train.steps));
}

std::string StateText(const Report& report) {
  if (report.recipe.IsOneRun()) return ProgressText(report, 0);
  const auto done = std::count_if(report.rows.begin(), report.rows.end(), [](const StageRow& row) { return row.done; });
  return absl::StrFormat("%d of %d done", done, report.rows.size());
}

// "A recipe of 12 stages, 4 of them controls"
std::string TitleText(const Report& report) {
  if (report.recipe.IsOneRun()) return "One run: " + KindText(report.recipe.stages[0].config.stage);
  const auto controls =
      std::count_if(report.rows.begin(), report.rows.end(), [](const StageRow& row) { return row.control; });
  return absl::StrFormat("A recipe of %d stages%s", report.rows.size(),
                         controls > 0 ? absl::StrFormat(", %d of them controls", controls) : "");
}

// From which stages it reads beside that it starts from.
std::string InputsText(const core::Recipe& recipe, const core::StagePlan& plan) {
  std::string text;
  for (const core::StagePlan& input : recipe.stages) {
    const std::string& dir = input.config.run.dir;
    if (plan.config.teacher == dir) text += ", taught by " + input.name;
    for (const core::SourceConfig& source : plan.config.data.train) {
      if (source.path.starts_with(dir + "/")) text += ", on samples of " + input.name;
    }
  }
  return text;
}

const char* StateClass(const Report& report, size_t stage) {
  if (report.rows[stage].done) return "";
  return report.histories[stage].last_step > 0 ? " now" : " open";
}

std::string Node(const Report& report, size_t stage) {
  const StageRow& row = report.rows[stage];
  const core::StagePlan& plan = report.recipe.stages[stage];
  const std::string html = absl::StrFormat("<div class=\"node%s%s\"><div><b>%s</b>%s<br/><small>%s%s</small></div>",
                                           row.control ? " control" : "", StateClass(report, stage), Escaped(row.name),
                                           row.control ? " <i>control</i>" : "", KindText(plan.config.stage),
                                           Escaped(InputsText(report.recipe, plan)));
  if (!row.scores) {
    return html + absl::StrFormat("<div class=\"score\"><small>%s</small></div></div>", ProgressText(report, stage));
  }
  const double share = row.scores->pass_at_1.mean;
  return html + absl::StrFormat(
                    "<div class=\"score\">%.3f<div class=\"meter\"><div style=\"width:%.1f%%\"></div></div>"
                    "</div></div>",
                    share, 100 * share);
}

std::string Branch(const Report& report, const std::string& from) {
  std::string items;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    if (report.rows[stage].from != from) continue;
    items += absl::StrFormat("<li>%s%s</li>\n", Node(report, stage), Branch(report, report.rows[stage].name));
  }
  return items.empty() ? "" : absl::StrFormat("<ul>%s</ul>", items);
}

std::string ComparisonItem(const Comparison& comparison) {
  using Outcome = Comparison::Outcome;
  const Outcome outcome = comparison.outcome();
  const char* css = outcome == Outcome::kBetter ? "better" : outcome == Outcome::kWorse ? "worse" : "same";
  const StageRow &method = *comparison.method, &other = *comparison.other;
  std::string errors;
  if (comparison.error > 0) {
    errors = absl::StrFormat(", %.1f standard errors", std::abs(comparison.difference) / comparison.error);
  }
  return absl::StrFormat(
      "<li><span class=\"%s\">%s</span><span><b>%s</b> %.3f against %s <b>%s</b> %.3f</span><small>%+.3f &#177; %.3f%s"
      "</small></li>\n",
      css, comparison.Verdict(), Escaped(method.name), method.scores->pass_at_1.mean,
      other.control ? "the control" : "its start", Escaped(other.name), other.scores->pass_at_1.mean,
      comparison.difference, comparison.error, errors);
}

}  // namespace

std::string Report::NameOf(size_t stage) const {
  return rows[stage].name.empty() ? recipe.stages[stage].config.stage : rows[stage].name;
}

std::string Section(const std::string& title, const std::string& body) {
  return body.empty() ? "" : absl::StrFormat("<section>\n<h2>%s</h2>\n%s</section>\n", title, body);
}

std::string Headline(const Report& report) {
  const core::Config& first = report.recipe.stages[0].config;
  double seconds = 0, flops = 0;
  int64_t last_written = 0;
  std::set<int64_t> seeds;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    seconds += report.rows[stage].seconds;
    flops += report.rows[stage].flops;
    last_written = std::max(last_written, report.histories[stage].last_written);
    seeds.insert(report.recipe.stages[stage].config.train.seed);
  }
  const bool one = report.recipe.IsOneRun();
  return absl::StrFormat("<header>\n<h1>%s</h1>\n<p class=\"lead\">%s</p>\n<dl>\n",
                         Escaped(FolderName(report.recipe.dir)), TitleText(report)) +
         Fact(one ? "state" : "stages", StateText(report)) + Fact("problems", ProblemsText(report.recipe)) +
         Fact("model", ModelsText(report.rows)) + Fact("seed", absl::StrJoin(seeds, ", ")) +
         Fact("precision", first.precision) + Fact("time of steps", seconds > 0 ? DurationText(seconds) : "") +
         Fact("compute", flops > 0 ? FlopText(flops) : "") + Fact("last step, UTC", TimeText(last_written)) +
         "</dl>\n</header>\n";
}

std::string ComparisonSection(const Report& report) {
  std::string items;
  for (const Comparison& comparison : CompareWithControls(report.recipe, report.rows)) {
    items += ComparisonItem(comparison);
  }
  if (items.empty()) return "";
  return Section(
      "Does it beat its controls?",
      "<ul class=\"compare\">\n" + items +
          "</ul>\n<p class=\"note\">Numbers are pass@1, the share of samples that solve a held-out problem. "
          "Standard errors of differences are taken as if both had solved other problems, which is cautious; "
          "below two of them no difference is claimed. A control is what a method must beat to be worth its "
          "cost, and may win.</p>\n");
}

std::string PictureSection(const Report& report) {
  if (report.recipe.IsOneRun()) return "";
  return Section("Stages", "<div class=\"tree\">" + Branch(report, "") +
                               "</div>\n<p class=\"note\">A stage hangs below the one whose model it starts from. Bars "
                               "are pass@1 on held-out problems, at the end of the stage.</p>\n");
}

}  // namespace conclave::launch
