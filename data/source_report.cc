// SPDX-License-Identifier: Apache-2.0
#include "data/source_report.h"

#include <algorithm>
#include <optional>

#include "core/base/status_macros.h"
#include "data/content_index.h"
#include "data/source_files.h"
#include "data/token_file.h"
#include "data/tokenize.h"

namespace conclave::data {
namespace {

// Puts documents together that came in several chunks.
class DocumentCollector {
 public:
  explicit DocumentCollector(SourceReport& report) : report_(report) {}

  void Add(const EncodedChunk& chunk) {
    for (size_t i = 0; i < chunk.lengths.size(); ++i) {
      if (i > 0 || !chunk.continues_document) Finish();
      length_ = length_.value_or(0) + chunk.lengths[i];
      hash_ = hash_ * 31 + chunk.hashes[i];
    }
  }
  void Finish() {
    if (length_) {
      report_.lengths.Add(*length_);
      report_.duplicates.Add(hash_);
      report_.num_tokens += *length_;
    }
    length_.reset();
    hash_ = 0;
  }

 private:
  SourceReport& report_;
  std::optional<int64_t> length_;
  uint64_t hash_ = 0;
};

absl::Status InspectText(const std::vector<SourceFile>& files, const std::string& name, const RecordFormat& format,
                         const Tokenizer& tokenizer, const LoadOptions& options, SourceReport& report) {
  LoadProgress progress{.phase = LoadProgress::Phase::kTokenizing, .source = name, .bytes_total = report.file_bytes};
  DocumentCollector collector(report);
  RETURN_IF_ERROR(
      TokenizeFiles(files, tokenizer, format, NumThreads(options), [&](const EncodedChunk& chunk, int64_t file_bytes) {
        collector.Add(chunk);
        report.num_empty_documents += chunk.num_empty_documents;
        report.text_bytes += chunk.text_bytes;
        report.num_problems += chunk.num_problems;
        for (const std::string& problem : chunk.problems) {
          if (report.problems.size() == DocumentEncoder::kListedProblems) break;
          report.problems.push_back(problem);
        }
        progress.bytes_done = file_bytes;
        return Report(options, progress);
      }));
  collector.Finish();
  return absl::OkStatus();
}

absl::Status InspectTokens(const std::vector<SourceFile>& files, const core::SourceConfig& source,
                           const LoadOptions& options, SourceReport& report) {
  ASSIGN_OR_RETURN(const std::vector<FileContent> contents, ReadContents(files, source.path, "", options));
  ASSIGN_OR_RETURN(const TokenFile tokens, TokenFile::Open(files[0].path + ".idx", files[0].path + ".bin"));
  report.num_tokens = tokens.num_tokens();
  report.largest_id = contents[0].largest_id;
  for (int64_t document = 0; document < tokens.num_documents(); ++document) {
    const int64_t length = tokens.DocumentBegin(document + 1) - tokens.DocumentBegin(document);
    if (length > 0) {
      report.lengths.Add(length);
    } else {
      ++report.num_empty_documents;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SourceReport> InspectSource(const core::SourceConfig& source, const std::string& chat_template,
                                           const Tokenizer& tokenizer, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<SourceFile> files, ListSourceFiles(source.path));
  SourceReport report{.num_files = static_cast<int64_t>(files.size())};
  for (const SourceFile& file : files) report.file_bytes += file.bytes;
  if (files[0].format == FileFormat::kTokens) {
    RETURN_IF_ERROR(InspectTokens(files, source, options, report));
  } else {
    const RecordFormat format{.field = source.field, .chat_template = chat_template};
    RETURN_IF_ERROR(InspectText(files, source.path, format, tokenizer, options, report));
  }
  return report;
}

absl::StatusOr<SourceReport> InspectDocuments(const TaskDocuments& documents, const std::string& chat_template,
                                              const Tokenizer& tokenizer, const LoadOptions& options) {
  SourceReport report{.num_files = 1, .file_bytes = documents.count()};
  const RecordFormat format{.chat_template = chat_template};
  RETURN_IF_ERROR(InspectText({documents.AsFile()}, documents.name(), format, tokenizer, options, report));
  report.file_bytes = report.text_bytes;
  return report;
}

}  // namespace conclave::data
