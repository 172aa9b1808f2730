// SPDX-License-Identifier: Apache-2.0
// A file as chunks of about 1 MiB that can be worked on apart: whole lines of a .jsonl file, or pieces of a text file,
// which is one document. What cannot be read becomes a chunk, too, so that problems keep their place in the order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "data/byte_reader.h"
#include "data/source_files.h"

namespace conclave::data {

struct TextChunk {
  const SourceFile* file = nullptr;
  std::string text;
  int64_t first_line = 1;                             // kJsonLines: number of the first line
  bool begins_document = true, ends_document = true;  // kText
  std::string problem;  // "path:line: why": no text, but a record or a rest of the file that cannot be read
};

class TextSource {
 public:
  static constexpr int64_t kMaxLineBytes = int64_t{64} << 20;
  static constexpr char kLineTooLong[] = "more than 64 MiB in one line; split it";

  // Text or JSON lines. `file` outlives the source and its chunks.
  static absl::StatusOr<TextSource> Open(const SourceFile& file);

  // False at the end. A byte order mark at the start of the file is dropped, line ends stay as they are.
  bool Next(TextChunk& chunk);

  int64_t file_bytes_read() const { return reader_->file_bytes_read(); }

 private:
  TextSource(const SourceFile& file, std::unique_ptr<ByteReader> reader);
  void Read();  // more into buffer_
  bool NextLines(TextChunk& chunk);
  bool NextPiece(TextChunk& chunk);
  void Take(size_t bytes, TextChunk& chunk);
  bool SkipLine(TextChunk& chunk);

  const SourceFile* file_;
  std::unique_ptr<ByteReader> reader_;
  std::string buffer_;
  size_t lines_end_ = 0;  // behind the last newline in buffer_
  int64_t next_line_ = 1;
  bool at_end_ = false, at_start_ = true;
  std::string problem_;  // of reading; ends the file once the buffer is used up
};

}  // namespace conclave::data
