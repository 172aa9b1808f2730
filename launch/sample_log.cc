// SPDX-License-Identifier: Apache-2.0
#include "launch/sample_log.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "launch/metrics.h"
#include "rl/evaluation.h"

namespace conclave::launch {
namespace {

constexpr size_t kProblems = 3;

struct NamedText {
  const char* name;
  std::string LoggedSample::*text;
};
constexpr NamedText kTexts[] = {
    {"prompt", &LoggedSample::prompt}, {"answer", &LoggedSample::answer}, {"response", &LoggedSample::response}};

}  // namespace

std::vector<LoggedSample> FirstSamples(std::span<const data::Prompt> problems, std::span<const rl::Group> groups) {
  std::vector<LoggedSample> samples;
  for (const rl::Group& group : groups.first(std::min(groups.size(), kProblems))) {
    const data::Prompt& problem = problems[static_cast<size_t>(group.draw)];
    const rl::Episode& episode = group.episodes.front();
    samples.push_back({.prompt = problem.text,
                       .answer = problem.answer,
                       .response = episode.text,
                       .reward = episode.reward,
                       .solved = rl::Solved(episode)});
  }
  return samples;
}

std::string SamplesJson(std::span<const LoggedSample> samples) {
  std::string list;
  for (const LoggedSample& sample : samples) {
    JsonLine object;
    for (const auto& [name, text] : kTexts) object.Add(name, std::string_view(sample.*text));
    object.Add("reward", sample.reward);
    object.AddJson("solved", sample.solved ? "true" : "false");
    list += (list.empty() ? "" : ", ") + object.TakeObject();
  }
  return "[" + list + "]";
}

absl::StatusOr<std::vector<LoggedSample>> SamplesFromJson(const nlohmann::json& list) {
  if (!list.is_array()) return absl::DataLossError("samples: a list is expected");
  std::vector<LoggedSample> samples;
  for (const nlohmann::json& object : list) {
    if (!object.is_object()) return absl::DataLossError("samples: a list of objects is expected");
    LoggedSample& sample = samples.emplace_back();
    for (const auto& [name, text] : kTexts) {
      const auto found = object.find(name);
      if (found == object.end() || !found->is_string()) {
        return absl::DataLossError(absl::StrFormat("samples: %s: a text is expected", name));
      }
      sample.*text = found->get<std::string>();
    }
    const auto reward = object.find("reward"), solved = object.find("solved");
    if (reward == object.end() || solved == object.end() || !solved->is_boolean()) {
      return absl::DataLossError("samples: reward and solved are expected");
    }
    sample.reward = reward->is_number() ? reward->get<double>() : std::nan("");
    sample.solved = solved->get<bool>();
  }
  return samples;
}

std::string WriteSampleLine(const SampleLogLine& line) {
  JsonLine text;
  text.Add("step", line.step);
  text.AddJson("samples", SamplesJson(line.samples));
  return text.Take();
}

absl::StatusOr<std::vector<SampleLogLine>> ReadSampleLog(const std::string& path) {
  std::vector<SampleLogLine> lines;
  RETURN_IF_ERROR(ForEachLine(path, [&](const std::string& text, int64_t number) -> absl::Status {
    ASSIGN_OR_RETURN(const nlohmann::json line, core::ParseJson(text, {.name = path, .first_line = number}, {}));
    const auto wrong = [&](std::string_view what) {
      return absl::DataLossError(absl::StrFormat("%s:%d: %s", path, number, what));
    };
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) {
      return wrong("an object with step is expected");
    }
    auto samples = SamplesFromJson(line.value("samples", nlohmann::json()));
    if (!samples.ok()) return wrong(std::string(samples.status().message()));
    lines.push_back({.step = line["step"].get<int64_t>(), .samples = *std::move(samples)});
    return absl::OkStatus();
  }));
  return lines;
}

}  // namespace conclave::launch
