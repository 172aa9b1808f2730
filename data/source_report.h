// SPDX-License-Identifier: Apache-2.0
// What is in a source, read once from start to end without stopping at what is broken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/document_statistics.h"
#include "data/load_options.h"
#include "data/tasks/task_documents.h"
#include "data/tokenizer.h"

namespace conclave::data {

struct SourceReport {
  int64_t num_files = 0, file_bytes = 0;
  int64_t num_empty_documents = 0;
  int64_t num_problems = 0;
  std::vector<std::string> problems;  // the first few: "path:line: why"
  int64_t text_bytes = 0;             // 0: the source holds token ids
  int64_t num_tokens = 0, largest_id = -1;
  LengthHistogram lengths;  // in tokens, of the documents that are not empty
  DuplicateCounter duplicates;
};

// Keeps nothing on disk. An error if there is nothing to read; Cancelled if the options say stop.
absl::StatusOr<SourceReport> InspectSource(const core::SourceConfig& source, const std::string& chat_template,
                                           const Tokenizer& tokenizer, const LoadOptions& options);

// The same of documents that are made.
absl::StatusOr<SourceReport> InspectDocuments(const TaskDocuments& documents, const std::string& chat_template,
                                              const Tokenizer& tokenizer, const LoadOptions& options);

}  // namespace conclave::data
