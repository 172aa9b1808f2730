// SPDX-License-Identifier: Apache-2.0
#include "data/document_encoder.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"

#include "data/text_cut.h"

namespace conclave::data {
namespace {

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

void AddProblem(std::string problem, EncodedChunk& out) {
  ++out.num_problems;
  if (out.problems.size() < DocumentEncoder::kListedProblems) out.problems.push_back(std::move(problem));
}

}  // namespace

DocumentEncoder::DocumentEncoder(const Tokenizer& tokenizer, const std::string& field)
    : tokenizer_(tokenizer),
      field_(field),
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
  int64_t number = chunk.first_line;
  for (size_t begin = 0, end = 0; begin < chunk.text.size(); begin = end + 1, ++number) {
    end = std::min(chunk.text.find('\n', begin), chunk.text.size());
    const std::string_view line = std::string_view(chunk.text).substr(begin, end - begin);
    if (IsBlank(line)) continue;
    const bool too_long = static_cast<int64_t>(line.size()) > TextSource::kMaxLineBytes;
    const std::string problem = too_long ? TextSource::kLineTooLong : ParseJsonLine(line, field_, document_);
    if (!problem.empty()) {
      AddProblem(absl::StrFormat("%s:%d: %s", chunk.file->path, number, problem), out);
      continue;
    }
    if (end + 1 >= chunk.text.size()) std::string().swap(chunk.text);  // a line may have 64 MiB
    EncodeDocument(out);
  }
}

void DocumentEncoder::EncodeDocument(EncodedChunk& out) {
  if (document_.is_chat ? document_.messages.empty() : document_.text.empty()) {
    ++out.num_empty_documents;
    return;
  }
  out.lengths.push_back(0);
  out.hashes.push_back(0);
  ++out.num_documents;
  ids_.clear();
  if (document_.is_chat) {
    for (const Message& message : document_.messages) {
      out.text_bytes += static_cast<int64_t>(message.content.size());
      out.hashes.back() = out.hashes.back() * 31 + std::hash<std::string_view>()(message.content);
    }
    ids_ = RenderChat(tokenizer_, document_.messages, GenerationPrompt::kNone);
    return Append(out);
  }
  if (tokenizer_.bos_id() >= 0 && tokenizer_.bos_id() != tokenizer_.eos_id()) ids_.push_back(tokenizer_.bos_id());
  EncodeText(document_.text, out);
  if (tokenizer_.eos_id() >= 0) ids_.push_back(tokenizer_.eos_id());
  Append(out);
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
  const bool has_bos = tokenizer_.bos_id() >= 0 && tokenizer_.bos_id() != tokenizer_.eos_id();
  if (chunk.begins_document && has_bos) ids_.push_back(tokenizer_.bos_id());
  EncodeText(chunk.text, out);
  if (chunk.ends_document && tokenizer_.eos_id() >= 0) ids_.push_back(tokenizer_.eos_id());
  Append(out);
}

void DocumentEncoder::EncodeText(std::string_view text, EncodedChunk& out) {
  out.text_bytes += static_cast<int64_t>(text.size());
  out.hashes.back() = std::hash<std::string_view>()(text);
  while (!text.empty()) {
    const size_t size = FirstPiece(text, Rest::kNone);
    encoder_->Encode(text.substr(0, size), Parse::kText, ids_);
    text.remove_prefix(size);
    Append(out);
  }
}

void DocumentEncoder::Append(EncodedChunk& out) {
  out.lengths.back() += static_cast<int64_t>(ids_.size());
  AppendIds(ids_, type_, out.tokens);
  ids_.clear();
}

}  // namespace conclave::data
