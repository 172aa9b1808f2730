// SPDX-License-Identifier: Apache-2.0
#include "launch/score.h"

#include <stdio.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "data/json_line.h"
#include "data/load_options.h"
#include "data/source_files.h"
#include "data/text_source.h"
#include "launch/line_sink.h"
#include "launch/metrics.h"
#include "launch/text.h"
#include "launch/usage_error.h"
#include "rl/reward/reward.h"

namespace conclave::launch {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct Line {
  std::string_view text;
  core::JsonSource source;
};

// What a thread makes of the lines of its slice.
struct Slice {
  absl::Status status;
  std::string out;
  std::vector<rl::Score> scores;
};

absl::Status Problem(const core::JsonSource& source, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrFormat("%s:%d: %s", source.name, source.first_line, what));
}

absl::StatusOr<OrderedJson> ParseLine(const Line& line) {
  // The strict reader decides what is JSON; the tree of this parser keeps the order of the keys.
  RETURN_IF_ERROR(core::ParseJson(line.text, line.source, {.max_bytes = data::TextSource::kMaxLineBytes}).status());
  OrderedJson object = OrderedJson::parse(line.text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Problem(line.source, "not a JSON object");
  for (const char* field : {"response", "answer"}) {
    const auto found = object.find(field);
    if (found == object.end()) {
      return Problem(line.source, absl::StrFormat("no field \"%s\"; each line needs `response` and `answer`", field));
    }
    if (found->is_string() || (found->is_number() && field == std::string_view("answer"))) continue;
    return Problem(line.source, absl::StrFormat("the field \"%s\" is no text", field));
  }
  return object;
}

// Of an object that outlives it, as does `answer`, the text of a number.
rl::Response ResponseOf(const OrderedJson& object, const std::string& answer, int64_t line_number) {
  const auto prompt = object.find("prompt"), finished = object.find("finished");
  return {.prompt = prompt != object.end() && prompt->is_string() ? prompt->get_ref<const std::string&>() : "",
          .text = object["response"].get_ref<const std::string&>(),
          .answer = answer,
          .finished = finished == object.end() || !finished->is_boolean() || finished->get<bool>(),
          .random_key = core::RandomKey(0, core::RandomPurpose::kSampling, static_cast<uint64_t>(line_number))};
}

Slice ScoreSlice(std::span<const Line> lines, const rl::Reward& reward) {
  Slice slice;
  std::vector<OrderedJson> objects;
  std::vector<std::string> answers;
  for (const Line& line : lines) {
    absl::StatusOr<OrderedJson> object = ParseLine(line);
    if (!object.ok()) {
      slice.status = object.status();
      return slice;
    }
    const OrderedJson& answer = (*object)["answer"];
    answers.push_back(answer.is_string() ? answer.get<std::string>() : answer.dump());
    objects.push_back(*std::move(object));
  }
  std::vector<rl::Response> responses;
  for (size_t i = 0; i < lines.size(); ++i) {
    responses.push_back(ResponseOf(objects[i], answers[i], lines[i].source.first_line));
  }
  slice.scores.resize(lines.size());
  reward.ScoreAll(responses, slice.scores);
  for (size_t i = 0; i < lines.size(); ++i) {
    const rl::Score& score = slice.scores[i];
    objects[i]["reward"] = score.value;
    objects[i]["reason"] = score.reason.empty() ? std::string(rl::Name(score.outcome)) : score.reason;
    slice.out += objects[i].dump() + "\n";
  }
  return slice;
}

// In the order of the lines, whichever thread is first.
std::vector<Slice> ScoreLines(std::span<const Line> lines, const rl::Reward& reward, int num_threads) {
  const size_t num_slices = std::min<size_t>(static_cast<size_t>(num_threads), std::max<size_t>(lines.size(), 1));
  std::vector<Slice> slices(num_slices);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < num_slices; ++i) {
      const size_t begin = lines.size() * i / num_slices, end = lines.size() * (i + 1) / num_slices;
      threads.emplace_back([&, i, begin, end] { slices[i] = ScoreSlice(lines.subspan(begin, end - begin), reward); });
    }
  }
  return slices;
}

struct Summary {
  int64_t responses = 0;
  double sum = 0;
  std::string first_failure;  // of a verifier
  std::array<int64_t, rl::kNumOutcomes> by_outcome = {};

  double Mean() const { return responses == 0 ? 0 : sum / static_cast<double>(responses); }
  void Add(const rl::Score& score) {
    ++responses;
    sum += score.value;
    ++by_outcome[static_cast<size_t>(score.outcome)];
    if (score.outcome == rl::Outcome::kVerifierFailed && first_failure.empty()) first_failure = score.reason;
  }
};

void PrintJson(const Summary& summary) {
  JsonLine line;
  line.Add("responses", summary.responses);
  line.Add("mean", summary.Mean());
  for (int i = 0; i < rl::kNumOutcomes; ++i) {
    const std::string name(rl::Name(static_cast<rl::Outcome>(i)));
    line.Add(absl::StrReplaceAll(name, {{" ", "_"}}), summary.by_outcome[static_cast<size_t>(i)]);
  }
  fputs(line.Take().c_str(), stdout);
}

void Print(const Summary& summary) {
  absl::PrintF("%-30s %12s\n%-30s %12.6f\n", "responses", CountText(summary.responses), "mean reward", summary.Mean());
  for (int i = 0; i < rl::kNumOutcomes; ++i) {
    const int64_t count = summary.by_outcome[static_cast<size_t>(i)];
    if (count == 0) continue;
    absl::PrintF("%-30s %12s  %5.1f %%\n", rl::Name(static_cast<rl::Outcome>(i)), CountText(count),
                 100.0 * static_cast<double>(count) / static_cast<double>(summary.responses));
  }
}

absl::Status ScoreChunk(const data::TextChunk& chunk, const rl::Reward& reward, int num_threads, LineSink* sink,
                        Summary& summary) {
  if (!chunk.problem.empty()) return absl::InvalidArgumentError(chunk.problem);
  std::vector<Line> lines;
  for (data::LineCursor cursor(chunk); cursor.Next();) lines.push_back({cursor.line(), cursor.source()});
  for (const Slice& slice : ScoreLines(lines, reward, num_threads)) {
    RETURN_IF_ERROR(slice.status);
    for (const rl::Score& score : slice.scores) summary.Add(score);
    if (sink != nullptr) RETURN_IF_ERROR(sink->Write(slice.out));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<rl::Reward>> CreateReward(const core::RewardConfig& config) {
  if (config.name == "length" || config.name == "overlong") {
    return UsageError(absl::StrFormat("--reward: %s counts tokens, which a file of texts does not have", config.name));
  }
  if (config.name != "program" && !config.command.empty()) {
    return UsageError("--command: has no effect without --reward program");
  }
  absl::StatusOr<std::unique_ptr<rl::Reward>> reward = rl::CreateReward(config);
  if (!reward.ok()) return UsageError(absl::StrFormat("--%s", reward.status().message()));
  return reward;
}

}  // namespace

absl::StatusOr<ExitCode> Score(const ScoreOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<rl::Reward> reward, CreateReward(options.reward));
  // Whatever its name says, the file has JSON lines.
  const data::SourceFile file{.path = options.file, .format = data::FileFormat::kJsonLines};
  ASSIGN_OR_RETURN(data::TextSource source, data::TextSource::Open(file));
  std::optional<LineSink> sink;
  if (!options.out.empty()) {
    ASSIGN_OR_RETURN(LineSink created, LineSink::Create(options.out));
    sink.emplace(std::move(created));
  }
  const int num_threads = data::NumThreads({.threads = options.threads});
  Summary summary;
  data::TextChunk chunk;
  while (source.Next(chunk)) {
    RETURN_IF_ERROR(ScoreChunk(chunk, *reward, num_threads, sink ? &*sink : nullptr, summary));
  }
  if (sink) RETURN_IF_ERROR(sink->Finish());
  options.json ? PrintJson(summary) : Print(summary);
  const int64_t failed = summary.by_outcome[static_cast<size_t>(rl::Outcome::kVerifierFailed)];
  if (static_cast<double>(failed) <= options.reward.max_failed * static_cast<double>(summary.responses)) {
    return ExitCode::kDone;
  }
  return absl::UnavailableError(
      absl::StrFormat("%d of %d responses were not judged; %s", failed, summary.responses, summary.first_failure));
}

}  // namespace conclave::launch
