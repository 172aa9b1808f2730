// SPDX-License-Identifier: Apache-2.0
#include "data/document_encoder.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/text_cut.h"

namespace conclave::data {
namespace {

void AddProblem(std::string problem, EncodedChunk& out) {
  ++out.num_problems;
  if (out.problems.size() < DocumentEncoder::kListedProblems) out.problems.push_back(std::move(problem));
}

}  // namespace

DocumentEncoder::DocumentEncoder(const Tokenizer& tokenizer, const RecordFormat& format)
    : tokenizer_(tokenizer),
      format_(format),
      chat_template_(ChatTemplate::Choose(format.chat_template, tokenizer)),
      type_(TypeForVocabulary(tokenizer.vocab_size())),
      encoder_(tokenizer.NewEncoder()) {}

EncodedChunk DocumentEncoder::Encode(TextChunk chunk) {
  EncodedChunk out;
  if (!chunk.problem.empty()) {
    AddProblem(std::move(chunk.problem), out);
  } else if (chunk.file->format == FileFormat::kJsonLines) {
    EncodeLines(std::move(chunk), out);
  } else {
    EncodePiece(chunk, out);
  }
  return out;
}

void DocumentEncoder::EncodeLines(TextChunk chunk, EncodedChunk& out) {
  out.tokens.reserve(chunk.text.size() * static_cast<size_t>(SizeOf(type_)));
  for (LineCursor lines(chunk); lines.Next();) {
    const absl::Status status = ParseJsonLine(lines.line(), lines.source(), format_.field, document_);
    if (!status.ok()) {
      AddProblem(std::string(status.message()), out);
      continue;
    }
    const int64_t number = lines.source().first_line;
    if (lines.is_last()) std::string().swap(chunk.text);  // a line may have 64 MiB
    if (const absl::Status encoded = EncodeDocument(out); !encoded.ok()) {
      AddProblem(absl::StrFormat("%s:%d: %s", chunk.file->path, number, std::string(encoded.message())), out);
    }
    if (chunk.text.empty()) break;
  }
}

absl::Status DocumentEncoder::EncodeDocument(EncodedChunk& out) {
  if (document_.is_chat ? document_.messages.empty() : document_.text.empty()) {
    ++out.num_empty_documents;
    return absl::OkStatus();
  }
  if (document_.is_chat) RETURN_IF_ERROR(chat_template_.status());
  out.lengths.push_back(0);
  out.hashes.push_back(0);
  ++out.num_documents;
  ids_.clear();
  if (document_.is_chat) {
    for (const Message& message : document_.messages) {
      out.text_bytes += static_cast<int64_t>(message.content.size());
      out.hashes.back() = out.hashes.back() * 31 + std::hash<std::string_view>()(message.content);
    }
    // Names of special tokens within a message are tokens, as everywhere in chats.
    const std::string chat = chat_template_->RenderText(document_.messages, GenerationPrompt::kNone);
    encoder_->Encode(chat, Parse::kSpecial, ids_);
    Append(out);
    return absl::OkStatus();
  }
  if (const int32_t first = FirstToken(tokenizer_); first >= 0) ids_.push_back(first);
  EncodeText(document_.text, out);
  if (tokenizer_.eos_id() >= 0) ids_.push_back(tokenizer_.eos_id());
  Append(out);
  return absl::OkStatus();
}

void DocumentEncoder::EncodePiece(const TextChunk& chunk, EncodedChunk& out) {
  if (chunk.begins_document && chunk.ends_document && chunk.text.empty()) {
    ++out.num_empty_documents;
    return;
  }
  out.continues_document = !chunk.begins_document;
  out.num_documents = chunk.begins_document ? 1 : 0;
  out.lengths.push_back(0);
  out.hashes.push_back(0);
  ids_.clear();
  if (const int32_t first = FirstToken(tokenizer_); chunk.begins_document && first >= 0) ids_.push_back(first);
  EncodeText(chunk.text, out);
  if (chunk.ends_document && tokenizer_.eos_id() >= 0) ids_.push_back(tokenizer_.eos_id());
  Append(out);
}

void DocumentEncoder::EncodeText(std::string_view text, EncodedChunk& out) {
  out.text_bytes += static_cast<int64_t>(text.size());
  out.hashes.back() = std::hash<std::string_view>()(text);
  for (bool begins = !out.continues_document; !text.empty(); begins = false) {
    const std::string_view piece = text.substr(0, FirstPiece(text, Rest::kNone));
    if (begins) {
      encoder_->Encode(piece, Parse::kText, ids_);
    } else {
      encoder_->EncodeRest(piece, Parse::kText, ids_);
    }
    text.remove_prefix(piece.size());
    Append(out);
  }
}

void DocumentEncoder::Append(EncodedChunk& out) {
  out.lengths.back() += static_cast<int64_t>(ids_.size());
  AppendIds(ids_, type_, out.tokens);
  ids_.clear();
}

}  // namespace conclave::data
