// SPDX-License-Identifier: Apache-2.0
#include "data/text_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/tasks/task_documents.h"
#include "data/text_cut.h"

namespace conclave::data {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

TextSource::TextSource(const SourceFile& file, std::unique_ptr<ByteReader> reader)
    : file_(&file), reader_(std::move(reader)) {}

absl::StatusOr<TextSource> TextSource::Open(const SourceFile& file) {
  if (file.documents != nullptr) return TextSource(file, file.documents->NewReader());
  ASSIGN_OR_RETURN(std::unique_ptr<ByteReader> reader, ByteReader::Open(file.path));
  return TextSource(file, std::move(reader));
}

bool TextSource::Next(TextChunk& chunk) {
  chunk = TextChunk{.file = file_, .first_line = next_line_};
  while (at_start_ && !at_end_ && buffer_.size() < kByteOrderMark.size()) Read();
  if (at_start_ && buffer_.starts_with(kByteOrderMark)) {
    buffer_.erase(0, kByteOrderMark.size());
    lines_end_ = buffer_.rfind('\n') + 1;  // npos + 1 is 0
  }
  const bool found = file_->format == FileFormat::kJsonLines ? NextLines(chunk) : NextPiece(chunk);
  at_start_ = false;
  if (found || problem_.empty()) return found;
  chunk.problem.swap(problem_);
  return true;
}

void TextSource::Read() {
  absl::StatusOr<std::string_view> piece = reader_->Next();
  if (!piece.ok()) problem_ = std::string(piece.status().message());
  at_end_ = !piece.ok() || piece->empty();
  if (!piece.ok()) return;
  if (const size_t newline = piece->rfind('\n'); newline != std::string_view::npos) {
    lines_end_ = buffer_.size() + newline + 1;
  }
  buffer_.append(*piece);
}

void TextSource::Take(size_t bytes, TextChunk& chunk) {
  std::string rest = buffer_.substr(bytes);
  buffer_.resize(bytes);
  chunk.text.swap(buffer_);
  buffer_.swap(rest);
}

bool TextSource::NextLines(TextChunk& chunk) {
  while (!at_end_ && (buffer_.size() < kChunkBytes || lines_end_ == 0)) {
    if (static_cast<int64_t>(buffer_.size() - lines_end_) > kMaxLineBytes) break;
    Read();
  }
  if (at_end_ && problem_.empty()) lines_end_ = buffer_.size();  // the last line may lack its newline
  if (lines_end_ == 0) {
    if (!at_end_) return SkipLine(chunk);
    buffer_.clear();  // a line that could not be read to its end
    return false;
  }
  Take(std::exchange(lines_end_, 0), chunk);
  next_line_ += std::count(chunk.text.begin(), chunk.text.end(), '\n');
  return true;
}

bool TextSource::SkipLine(TextChunk& chunk) {
  chunk.problem = absl::StrFormat("%s:%d: %s", file_->path, next_line_, kLineTooLong);
  while (!at_end_ && lines_end_ == 0) {
    buffer_.clear();
    Read();
  }
  buffer_.erase(0, at_end_ ? buffer_.size() : buffer_.find('\n') + 1);
  lines_end_ = buffer_.rfind('\n') + 1;
  ++next_line_;
  return true;
}

bool TextSource::NextPiece(TextChunk& chunk) {
  chunk.begins_document = at_start_;
  if (at_end_ && buffer_.empty() && !at_start_) return false;
  size_t bytes = 0;
  while ((bytes = FirstPiece(buffer_, at_end_ ? Rest::kNone : Rest::kFollows)) == 0 && !at_end_) Read();
  if (!problem_.empty() && bytes == buffer_.size()) {  // the document lacks its end
    buffer_.clear();
    return false;
  }
  Take(bytes, chunk);
  chunk.ends_document = at_end_ && buffer_.empty();
  return true;
}

}  // namespace conclave::data
