// SPDX-License-Identifier: Apache-2.0
// The documents of one file, one after the other: a .jsonl file has one per line, in a named field; any other file is
// one document. Either may be packed (.gz). Memory is that of the longest document, not of the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "data/byte_reader.h"

namespace conclave::data {

class TextSource {
 public:
  // `field` is used for JSONL only.
  static absl::StatusOr<TextSource> Open(const std::string& path, const std::string& field);

  // Puts the next document that is not empty into `document`; false at the end. A byte order mark at the start of the
  // file is dropped, line ends stay as they are. Errors start with "path:" or "path:line:".
  absl::StatusOr<bool> Next(std::string& document);

  int64_t num_empty_documents() const { return num_empty_documents_; }  // skipped so far

 private:
  enum class Format { kWholeFile, kJsonLines };
  TextSource(std::string path, std::string field, Format format, std::unique_ptr<ByteReader> reader);
  // Reads up to the end of the line or of the file, without the line's end; false if there is nothing more.
  absl::StatusOr<bool> ReadRecord(std::string& record);
  absl::Status ParseLine(const std::string& line, std::string& document) const;

  std::string path_, field_;
  Format format_;
  std::unique_ptr<ByteReader> reader_;
  std::string_view piece_;  // read, not yet used
  int64_t num_bytes_ = 0, num_records_ = 0, num_empty_documents_ = 0;
};

}  // namespace conclave::data
