// SPDX-License-Identifier: Apache-2.0
// What the model answers to the same problems as it learns.
#include <algorithm>

#include "absl/strings/str_format.h"

#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace conclave::launch {
namespace {

constexpr size_t kMostOfStage = 12;                                 // evaluations that are shown of a stage
constexpr size_t kMostBytes = 300'000;                              // of all responses together
constexpr size_t kLongestResponse = 4000, kShortestResponse = 200;  // of one, whatever their number
constexpr size_t kLongestPrompt = 2000;

struct ShownSample {
  size_t stage = 0;
  int64_t step = 0;
  const LoggedSample* sample = nullptr;
};

struct ProblemSamples {
  const LoggedSample* problem = nullptr;
  std::vector<ShownSample> samples;
};

// Evenly spread ones, the first and the last among them.
std::vector<const SampleLogLine*> SomeOf(const std::vector<SampleLogLine>& lines) {
  const size_t count = std::min(lines.size(), kMostOfStage);
  std::vector<const SampleLogLine*> some;
  for (size_t i = 0; i < count; ++i) {
    some.push_back(&lines[count < 2 ? 0 : i * (lines.size() - 1) / (count - 1)]);
  }
  return some;
}

// By prompt, in the order in which prompts were first asked: stages of other tasks have other ones.
std::vector<ProblemSamples> ByProblem(const Report& report) {
  std::vector<ProblemSamples> problems;
  for (size_t stage = 0; stage < report.histories.size(); ++stage) {
    for (const SampleLogLine* line : SomeOf(report.histories[stage].samples)) {
      for (const LoggedSample& sample : line->samples) {
        auto known = std::find_if(problems.begin(), problems.end(), [&](const ProblemSamples& problem) {
          return problem.problem->prompt == sample.prompt;
        });
        if (known == problems.end()) known = problems.insert(problems.end(), ProblemSamples{.problem = &sample});
        known->samples.push_back({.stage = stage, .step = line->step, .sample = &sample});
      }
    }
  }
  return problems;
}

std::string SampleRow(const Report& report, const ShownSample& shown, bool first_of_stage, size_t most_bytes) {
  const LoggedSample& sample = *shown.sample;
  return absl::StrFormat(
      "<tr%s><th>%s</th><td class=\"number\">%d</td><td class=\"%s\">%s</td><td class=\"number\">%.3g</td>"
      "<td class=\"response\">%s</td></tr>\n",
      first_of_stage ? " class=\"first\"" : "", first_of_stage ? Escaped(report.NameOf(shown.stage)) : "", shown.step,
      sample.solved ? "better" : "worse", sample.solved ? "right" : "wrong", sample.reward,
      Escaped(Shortened(sample.response, most_bytes)));
}

// The first is open, the others unfold.
std::string ProblemTable(const Report& report, const ProblemSamples& problem, size_t number, size_t most_bytes) {
  std::string rows;
  for (size_t i = 0; i < problem.samples.size(); ++i) {
    const bool first_of_stage = i == 0 || problem.samples[i - 1].stage != problem.samples[i].stage;
    rows += SampleRow(report, problem.samples[i], first_of_stage, most_bytes);
  }
  return absl::StrFormat(
      "<details%s><summary><code>%s</code> <small>answer %s</small></summary>\n<div "
      "class=\"scroll\"><table "
      "class=\"samples\"><tr><th>stage</th><th class=\"number\">step</th><th></th><th class=\"number\">reward</th>"
      "<th>response</th></tr>\n%s</table></div></details>\n",
      number == 0 ? " open=\"open\"" : "", Escaped(Shortened(problem.problem->prompt, kLongestPrompt)),
      Escaped(Shortened(problem.problem->answer, kLongestPrompt)), rows);
}

}  // namespace

std::string SampleSection(const Report& report) {
  const std::vector<ProblemSamples> problems = ByProblem(report);
  size_t count = 0;
  for (const ProblemSamples& problem : problems) count += problem.samples.size();
  if (count == 0) return "";
  const size_t most_bytes = std::clamp(kMostBytes / count, kShortestResponse, kLongestResponse);
  std::string body;
  for (size_t i = 0; i < problems.size(); ++i) body += ProblemTable(report, problems[i], i, most_bytes);
  return Section("Sample answers over time",
                 "<p class=\"note\">One response to each of the same held-out problems, at evaluations during a stage "
                 "and at its end; drawn alike, so that they differ by the weights alone.</p>\n" +
                     body);
}

}  // namespace conclave::launch
