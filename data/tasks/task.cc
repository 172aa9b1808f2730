// SPDX-License-Identifier: Apache-2.0
// The table of tasks, their checks, and the splits.
#include "data/tasks/task.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "core/config/checks.h"
#include "core/config/nearest.h"
#include "data/tasks/kinds.h"
#include "data/text_hash.h"

namespace conclave::data {
namespace {

// A split must hold at least one in so many problems; then a search of kMaxAttempts fails once in e^256 times.
constexpr uint64_t kRarest = 4096;
constexpr uint64_t kMaxAttempts = kRarest * 256;

struct Kind {
  std::string_view name;
  std::unique_ptr<Task> (*create)(const core::TaskConfig&);
  bool reads_terms;
  std::string_view operators;  // to choose from; "": it reads none
  int64_t max_level;
};

constexpr Kind kKinds[] = {
    {"addition", NewAddition, false, "", 10},      {"arithmetic", NewArithmetic, true, "+-*", 10},
    {"countdown", NewCountdown, true, "+-*/", 10}, {"linear_equation", NewLinearEquation, false, "", 4},
    {"sorting", NewSorting, true, "", 10},         {"word_problem", NewWordProblem, false, "", 10},
};

absl::StatusOr<const Kind*> FindKind(std::string_view name, std::string_view key) {
  for (const Kind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  const std::vector<std::string> names = TaskNames();
  const std::string_view nearest = core::Nearest(name, names);
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: \"%s\" is not a task%s; there are %s", key, name,
      nearest.empty() ? "" : absl::StrFormat(", did you mean \"%s\"?", nearest), absl::StrJoin(names, ", ")));
}

absl::Status CheckUnread(const Kind& kind, const core::TaskConfig& config, const std::string& key) {
  const core::TaskConfig defaults;
  const auto unread = [&](const char* field) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.%s: the task %s does not read it; leave it out", key, field, kind.name));
  };
  if (!kind.reads_terms && config.terms != defaults.terms) return unread("terms");
  if (kind.operators.empty() && config.operators != defaults.operators) return unread("operators");
  return absl::OkStatus();
}

absl::Status CheckOperators(const Kind& kind, const core::TaskConfig& config, const std::string& key) {
  const std::string& operators = config.operators;
  bool repeated = false;
  for (size_t i = 0; i < operators.size(); ++i) repeated |= operators.find(operators[i], i + 1) != std::string::npos;
  if (operators.empty() || repeated || operators.find_first_not_of(kind.operators) != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.operators: \"%s\" is not a choice of %s, each once, as %s has", key, operators, kind.operators, kind.name));
  }
  const int64_t terms = config.terms + config.level - 1;
  if (kind.create == NewCountdown && operators.find('+') == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.operators: \"%s\" lacks +, without which not all numbers of a countdown can be joined", key, operators));
  }
  if (kind.create == NewArithmetic && operators.find('*') != std::string::npos &&
      terms * config.digits > kMaxProductDigits) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: a product of %d terms of %d digits may have more than %d digits; give fewer terms, digits "
                        "or levels",
                        key, terms, config.digits, kMaxProductDigits));
  }
  return absl::OkStatus();
}

absl::Status CheckRanges(const Kind& kind, const core::TaskConfig& config, const std::string& key) {
  RETURN_IF_ERROR(core::InRange(key + ".level", config.level, 1, kind.max_level));
  RETURN_IF_ERROR(core::InRange(key + ".digits", config.digits, 1, 9));
  RETURN_IF_ERROR(core::InRange(key + ".terms", config.terms, 2, 16));
  if (!kind.operators.empty()) RETURN_IF_ERROR(CheckOperators(kind, config, key));
  return core::InRange(key + ".held_out", config.held_out, 0.0, 1.0);
}

}  // namespace

std::vector<std::string> TaskNames() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

absl::StatusOr<std::unique_ptr<Task>> CreateTask(const core::TaskConfig& config, std::string_view key) {
  const std::string prefix(key);
  ASSIGN_OR_RETURN(const Kind* kind, FindKind(config.name, prefix + ".name"));
  RETURN_IF_ERROR(CheckUnread(*kind, config, prefix));
  RETURN_IF_ERROR(CheckRanges(*kind, config, prefix));
  return kind->create(config);
}

absl::StatusOr<Split> SplitNamed(std::string_view name, std::string_view key) {
  if (name == "train") return Split::kTrain;
  if (name == "held_out") return Split::kHeldOut;
  return absl::InvalidArgumentError(absl::StrFormat("%s: \"%s\" is not a split; there are train, held_out", key, name));
}

TaskSplit::TaskSplit(const core::TaskConfig& config, std::unique_ptr<Task> task, Split split, uint64_t seed)
    : task_(std::move(task)),
      split_(split),
      key_(core::RandomKey(seed, core::RandomPurpose::kTask, split == Split::kTrain ? 1 : 2)),
      held_out_(static_cast<uint64_t>(config.held_out * 0x1p32)) {}

absl::StatusOr<TaskSplit> TaskSplit::Create(const core::TaskConfig& config, std::string_view key, Split split,
                                            uint64_t seed) {
  ASSIGN_OR_RETURN(std::unique_ptr<Task> task, CreateTask(config, key));
  TaskSplit result(config, std::move(task), split, seed);
  for (uint64_t attempt = 0; attempt < kRarest; ++attempt) {
    if (result.Holds(result.Try(0, attempt))) return result;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: of %d problems of the task %s none is in the split %s; with held_out: %s it is empty or almost so. Give "
      "more digits or levels, or another held_out",
      key, kRarest, config.name, split == Split::kTrain ? "train" : "held_out", core::ValueText(config.held_out)));
}

absl::StatusOr<TaskSplit> TaskSplit::Open(const core::SourceConfig& source, std::string_view key,
                                          std::span<const core::TaskConfig> tasks, uint64_t seed) {
  ASSIGN_OR_RETURN(const Split split, SplitNamed(source.split, absl::StrFormat("%s.split", key)));
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].name == source.task) return Create(tasks[i], absl::StrFormat("tasks.%d", i), split, seed);
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s.task: \"%s\" is not among `tasks`; add {name: %s} there", key, source.task, source.task));
}

Problem TaskSplit::Try(uint64_t index, uint64_t attempt) const {
  const std::array<uint32_t, 4> words = core::Philox(key_, index, attempt);
  return task_->Make(uint64_t{words[1]} << 32 | words[0]);
}

bool TaskSplit::Holds(const Problem& problem) const {
  const bool held_out = TextHash(problem.prompt) >> 32 < held_out_;
  return held_out == (split_ == Split::kHeldOut);
}

Problem TaskSplit::At(uint64_t index) const {
  for (uint64_t attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Problem problem = Try(index, attempt);
    if (Holds(problem)) return problem;
  }
  core::Fatal("a split of a task seems to be empty, though Create found a problem in it");
}

TaskDocument ToDocument(const Problem& problem, AnswerForm form) {
  TaskDocument document{.user = problem.prompt};
  if (form == AnswerForm::kWorked) document.assistant.append("<think>").append(problem.worked).append("</think>");
  document.assistant.append("<answer>").append(problem.answer).append("</answer>");
  return document;
}

}  // namespace conclave::data
