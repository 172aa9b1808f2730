// SPDX-License-Identifier: Apache-2.0
// Chats to samples, one after the other, from files and from tasks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "core/config/config.h"
#include "data/chat_template.h"
#include "data/load_options.h"
#include "data/packed_loader.h"
#include "data/sample_rows.h"
#include "data/tasks/task_documents.h"
#include "data/tokenizer.h"

namespace conclave::data {

enum class LearnedPart { kAnswers, kLast, kAll };

// What a sample was asked, and where it is from.
struct SamplePrompt {
  uint64_t hash;  // of all that the assistant does not say
  std::string place;
};

class SampleReader {
 public:
  // What is referred to outlives the reader.
  SampleReader(const core::DataConfig& config, LearnedPart learned, const Tokenizer& tokenizer,
               const ChatTemplate& chat_template, const LoadOptions& options)
      : config_(config),
        learned_(learned),
        chat_template_(chat_template),
        options_(options),
        encoder_(tokenizer.NewEncoder()) {}

  // Lines with `messages`, or with prompt and response, under these names or those of the source.
  absl::Status ReadFile(const core::SourceConfig& source, const std::string& key);
  absl::Status ReadTask(const TaskDocuments& documents);

  const TextCounts& counts() const { return counts_; }
  const std::vector<SamplePrompt>& prompts() const { return prompts_; }
  Samples Take() { return std::move(samples_); }

 private:
  absl::Status Add(std::vector<Message> messages, const std::string& place);
  absl::Status TooLong(const std::string& place, int64_t tokens);

  const core::DataConfig& config_;
  LearnedPart learned_;
  const ChatTemplate& chat_template_;
  const LoadOptions& options_;
  std::unique_ptr<Encoder> encoder_;
  std::vector<int32_t> ids_;  // of one part
  Samples samples_;
  std::vector<SamplePrompt> prompts_;
  TextCounts counts_;
};

}  // namespace conclave::data
