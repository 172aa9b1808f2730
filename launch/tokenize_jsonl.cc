// SPDX-License-Identifier: Apache-2.0
#include "launch/tokenize_jsonl.h"

#include <stdio.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/json_line.h"
#include "data/source_files.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "launch/model_loading.h"

namespace conclave::launch {
namespace {

using OrderedJson = nlohmann::ordered_json;

// Where lines go: a file that replaces an older one only when it is complete, or standard output.
class LineSink {
 public:
  static absl::StatusOr<LineSink> Create(const std::string& path) {
    LineSink sink;
    sink.path_ = path;
    if (path.empty()) return sink;
    ASSIGN_OR_RETURN(core::OutputFile file, core::OutputFile::Create(path + ".tmp", 0));
    sink.file_.emplace(std::move(file));
    return sink;
  }

  absl::Status Write(std::string_view text) {
    if (file_) return file_->Append(text.data(), static_cast<int64_t>(text.size()));
    if (fwrite(text.data(), 1, text.size(), stdout) == text.size()) return absl::OkStatus();
    return absl::UnavailableError("standard output: cannot write");
  }

  absl::Status Finish() {
    if (!file_) return absl::OkStatus();
    RETURN_IF_ERROR(file_->Finish().status());
    if (::rename((path_ + ".tmp").c_str(), path_.c_str()) == 0) return absl::OkStatus();
    const int error = errno;
    core::RemoveTree(path_ + ".tmp").IgnoreError();
    return core::FileError(error, "cannot write", path_);
  }

 private:
  std::string path_;
  std::optional<core::OutputFile> file_;
};

class Annotator {
 public:
  explicit Annotator(const data::Tokenizer& tokenizer) : tokenizer_(tokenizer), encoder_(tokenizer.NewEncoder()) {}

  // The line with `ids` and `decoded`; nothing if it has no text `input`.
  absl::StatusOr<std::optional<std::string>> Annotate(std::string_view line, const core::JsonSource& source) {
    // The strict reader decides what is JSON; the tree of this parser keeps the order of the keys.
    RETURN_IF_ERROR(core::ParseJson(line, source, {.max_bytes = data::TextSource::kMaxLineBytes}).status());
    OrderedJson object = OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto input = object.find("input");
    if (input == object.end() || !input->is_string()) return std::nullopt;
    std::vector<int32_t> ids;
    encoder_->Encode(input->get_ref<const std::string&>(), data::Parse::kSpecial, ids);
    object["ids"] = ids;
    object["decoded"] = Decoded(ids);
    return object.dump() + "\n";
  }

 private:
  std::string Decoded(const std::vector<int32_t>& ids) const {
    data::StreamDecoder decoder(tokenizer_, data::SpecialTokens::kKeep);
    std::string text;
    for (const int32_t id : ids) text += decoder.Push(id);
    return text + decoder.Finish();
  }

  const data::Tokenizer& tokenizer_;
  std::unique_ptr<data::Encoder> encoder_;
};

absl::Status AnnotateLines(const data::TextChunk& chunk, Annotator& annotator, LineSink& sink) {
  if (!chunk.problem.empty()) return absl::InvalidArgumentError(chunk.problem);
  for (data::LineCursor lines(chunk); lines.Next();) {
    ASSIGN_OR_RETURN(const std::optional<std::string> annotated, annotator.Annotate(lines.line(), lines.source()));
    if (annotated) RETURN_IF_ERROR(sink.Write(*annotated));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExitCode> TokenizeJsonl(const TokenizeJsonlOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<data::Tokenizer> tokenizer, LoadTokenizerOf(options.tokenizer));
  // Whatever its name says, the file has JSON lines.
  const data::SourceFile file{.path = options.jsonl, .format = data::FileFormat::kJsonLines};
  ASSIGN_OR_RETURN(data::TextSource source, data::TextSource::Open(file));
  ASSIGN_OR_RETURN(LineSink sink, LineSink::Create(options.out));
  Annotator annotator(*tokenizer);
  data::TextChunk chunk;
  while (source.Next(chunk)) RETURN_IF_ERROR(AnnotateLines(chunk, annotator, sink));
  RETURN_IF_ERROR(sink.Finish());
  return ExitCode::kDone;
}

}  // namespace conclave::launch
