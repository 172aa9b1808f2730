// SPDX-License-Identifier: Apache-2.0
// Problems of a task as documents to learn from: chats, of which a share shows the way to the answer. Document i is a
// pure function of (config, seed, i). Readers see a JSONL file that is written as it is read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/byte_reader.h"
#include "data/chat_template.h"
#include "data/source_files.h"
#include "data/tasks/task.h"

namespace conclave::data {

// Different uses with the same seed see different problems.
enum class DocumentUse { kPretraining = 16, kDemonstrations };

class TaskDocuments {
 public:
  // The source names one of `tasks` and says how many. system: text of the first message of all; "": none.
  static absl::StatusOr<TaskDocuments> Create(const core::SourceConfig& source, const std::string& key,
                                              std::span<const core::TaskConfig> tasks, const std::string& system,
                                              uint64_t seed, DocumentUse use);

  const std::string& name() const { return name_; }  // "addition/train"
  int64_t count() const { return count_; }
  std::vector<Message> At(int64_t index) const;

  // 32 hexadecimal digits over all that decides the documents, and over the first of them: changes of this program
  // that change documents change it, too.
  std::string Fingerprint() const;

  // As a file of lines {"messages": [...]}, and what reads it. The documents outlive both.
  SourceFile AsFile() const;
  std::unique_ptr<ByteReader> NewReader() const;

 private:
  TaskDocuments(TaskSplit split, const core::SourceConfig& source, const std::string& system, uint64_t seed);

  TaskSplit split_;
  std::string name_, system_, parameters_;
  int64_t count_;
  uint64_t worked_key_, worked_;  // worked_: share, in units of 2^-32
};

}  // namespace conclave::data
