// SPDX-License-Identifier: Apache-2.0
// One thread's work between text and token file: parses the lines of a chunk and encodes its documents.
// A document is [bos] text [eos], without bos where it is the same id as eos; a chat is what its template makes of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat_template.h"
#include "data/json_line.h"
#include "data/text_source.h"
#include "data/token_type.h"
#include "data/tokenizer.h"

namespace conclave::data {

struct EncodedChunk {
  std::string tokens;               // of all documents, in the type of the token file
  std::vector<int64_t> lengths;     // in tokens, of the documents, or parts of one, in this chunk
  std::vector<uint64_t> hashes;     // of the text of each
  bool continues_document = false;  // the first length goes on with the last document of the chunk before
  int64_t num_documents = 0;        // that begin here
  int64_t num_empty_documents = 0;
  int64_t text_bytes = 0;
  int64_t num_problems = 0;
  std::vector<std::string> problems;  // the first few: "path:line: why"
};

// How a line of JSONL becomes a document.
struct RecordFormat {
  std::string field = "text";
  std::string chat_template = "auto";  // of chats, see data/chat_template.h
};

class DocumentEncoder {
 public:
  static constexpr size_t kListedProblems = 10;

  // Both outlive the encoder.
  DocumentEncoder(const Tokenizer& tokenizer, const RecordFormat& format);

  EncodedChunk Encode(TextChunk chunk);

 private:
  void EncodeLines(TextChunk chunk, EncodedChunk& out);
  void EncodePiece(const TextChunk& chunk, EncodedChunk& out);
  absl::Status EncodeDocument(EncodedChunk& out);
  void EncodeText(std::string_view text, EncodedChunk& out);  // any length, cut where FirstPiece says
  void Append(EncodedChunk& out);                             // ids_

  const Tokenizer& tokenizer_;
  const RecordFormat& format_;
  const absl::StatusOr<ChatTemplate> chat_template_;  // an error matters to chats only
  const TokenType type_;
  std::unique_ptr<Encoder> encoder_;
  JsonDocument document_;
  std::vector<int32_t> ids_;
};

}  // namespace conclave::data
