// SPDX-License-Identifier: Apache-2.0
#include "launch/tokenize_jsonl.h"

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
#include "data/json_line.h"
#include "data/source_files.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "launch/line_sink.h"
#include "launch/model_loading.h"

namespace conclave::launch {
namespace {

using OrderedJson = nlohmann::ordered_json;

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
