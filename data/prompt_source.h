// SPDX-License-Identifier: Apache-2.0
// One source of problems with answers: a JSONL file, whose records are kept in memory, or a task, whose problems are
// made when asked for. Each becomes the ids of a chat that ends where the assistant goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/chat_template.h"
#include "data/tasks/task.h"
#include "data/tokenizer.h"

namespace conclave::data {

struct Prompt {
  std::string id;      // "gsm8k/train.jsonl:17", "addition/train/17"
  std::string source;  // "gsm8k/train.jsonl", "addition/train"
  std::string text;    // of the user
  std::string answer;
  std::vector<int32_t> ids;  // with the system message, up to where the assistant goes on
};

// What all sources of prompts have in common. What is referred to outlives the sources.
struct PromptContext {
  const core::DataConfig& config;
  std::span<const core::TaskConfig> tasks;
  const Tokenizer& tokenizer;
};

class PromptSource {
 public:
  // Errors name the key, or file and line: a field that is missing or empty; a prompt that is too long, where
  // data.long_prompts says refuse.
  static absl::StatusOr<PromptSource> Open(const core::SourceConfig& source, const std::string& key,
                                           const PromptContext& context, uint64_t seed);

  std::optional<int64_t> size() const { return size_; }  // none: without end
  int64_t num_dropped() const { return num_dropped_; }   // too long
  // "gsm8k/train.jsonl", "addition/train".
  const std::string& name() const { return name_; }

  Prompt At(int64_t index) const;
  // Its text alone, without encoding it where that can be spared.
  std::string TextAt(int64_t index) const { return task_ ? FromTask(index).text : records_[index].text; }

 private:
  struct Record {
    std::string place, text, answer;
  };
  PromptSource(const PromptContext& context, ChatTemplate chat_template)
      : config_(context.config), tokenizer_(context.tokenizer), chat_template_(std::move(chat_template)) {}
  absl::Status OpenFile(const core::SourceConfig& source, const std::string& key);
  absl::Status OpenTask(const core::SourceConfig& source, const std::string& key, const PromptContext& context,
                        uint64_t seed);
  std::vector<int32_t> Render(const std::string& text) const;
  absl::Status TooLong(const std::string& place, size_t tokens) const;
  Prompt FromTask(int64_t index) const;

  const core::DataConfig& config_;
  const Tokenizer& tokenizer_;
  ChatTemplate chat_template_;
  std::string name_;
  std::vector<Record> records_;    // of a file
  std::optional<TaskSplit> task_;  // or none
  std::optional<int64_t> size_;
  int64_t num_dropped_ = 0;
};

}  // namespace conclave::data
