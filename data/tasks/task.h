// SPDX-License-Identifier: Apache-2.0
// Tasks make problems with answers and worked solutions, without any file. Problem n of a task is a pure function of
// (config, n) in whole numbers, so it is the same on every machine; which split a problem belongs to is a hash of its
// text, so no problem is ever in both, whatever the seeds.
//
//   task             a problem                         each level beyond the first adds
//   addition         123+456=                          a digit
//   arithmetic       12+7*30=                          a term
//   countdown        Use 3, 8, 5 once each to make 29  a number
//   linear_equation  Solve 3x+6=21                     terms: x+b=c | ax+b=c | ax+b=cx+d | a(x+b)=cx+d
//   sorting          Sort (45,3,12)                    a number
//   word_problem     Anna has 12 apples. ...           a step, of two at first
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"

namespace conclave::data {

struct Problem {
  std::string prompt;
  std::string answer;
  std::string worked;  // the way to the answer, without tags
};

class Task {
 public:
  virtual ~Task() = default;
  virtual Problem Make(uint64_t number) const = 0;
};

// Those of the table above, in its order.
std::vector<std::string> TaskNames();

// Errors name the key below `key`: an unknown task, a value that is out of range, or one that the task does not read.
absl::StatusOr<std::unique_ptr<Task>> CreateTask(const core::TaskConfig& config, std::string_view key);

enum class Split { kTrain, kHeldOut };
absl::StatusOr<Split> SplitNamed(std::string_view name, std::string_view key);  // train | held_out

// An endless sequence of problems of one split.
class TaskSplit {
 public:
  // An error also if (almost) no problem of the task falls into the split.
  static absl::StatusOr<TaskSplit> Create(const core::TaskConfig& config, std::string_view key, Split split,
                                          uint64_t seed);

  // Of the one of `tasks` that a source names.
  static absl::StatusOr<TaskSplit> Open(const core::SourceConfig& source, std::string_view key,
                                        std::span<const core::TaskConfig> tasks, uint64_t seed);

  Problem At(uint64_t index) const;

 private:
  TaskSplit(const core::TaskConfig& config, std::unique_ptr<Task> task, Split split, uint64_t seed);
  Problem Try(uint64_t index, uint64_t attempt) const;
  bool Holds(const Problem& problem) const;

  std::unique_ptr<Task> task_;
  Split split_;
  uint64_t key_, held_out_;  // held_out_: texts with a smaller hash, in units of 2^-32
};

// How a problem is asked and answered in every document.
enum class AnswerForm { kBare, kWorked };
struct TaskDocument {
  std::string user;
  std::string assistant;  // "<answer>579</answer>" or "<think>...</think><answer>579</answer>"
};
TaskDocument ToDocument(const Problem& problem, AnswerForm form);

}  // namespace conclave::data
