// SPDX-License-Identifier: Apache-2.0
#include "data/json_fields.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/json_line.h"
#include "data/source_files.h"
#include "data/text_source.h"

namespace conclave::data {
namespace {

constexpr size_t kMaxListedBytes = 200;  // of the keys that a message names

class FieldReader final : public core::JsonEvents {
 public:
  FieldReader(std::span<JsonField> fields, std::string& keys) : fields_(fields), keys_(keys) {}

  bool Null() override { return Other("null"); }
  bool Bool(bool) override { return Other("a boolean"); }
  bool Negative(int64_t value) override { return Text(absl::StrFormat("%d", value)); }
  bool Unsigned(uint64_t value) override { return Text(absl::StrFormat("%d", value)); }
  bool Float(double, std::string_view text) override { return Text(std::string(text)); }
  bool String(std::string& text) override { return Text(std::move(text)); }
  bool BeginObject() override {
    if (depth_ > 0 && !Other("an object")) return false;
    ++depth_;
    return true;
  }
  bool BeginArray() override {
    if (!Other("an array")) return false;
    ++depth_;
    return true;
  }
  bool EndObject() override { return --depth_, true; }
  bool EndArray() override { return --depth_, true; }
  bool Key(std::string& name) override {
    if (depth_ != 1) return true;
    at_ = nullptr;
    for (JsonField& field : fields_) at_ = field.name == name ? &field : at_;
    if (keys_.size() < kMaxListedBytes) keys_ += (keys_.empty() ? "" : ", ") + name.substr(0, kMaxListedBytes);
    return true;
  }

 private:
  bool Text(std::string value) {
    if (depth_ == 0) return Refuse("a text or number, not a JSON object");
    if (depth_ == 1 && at_ != nullptr) at_->value = std::move(value);
    return true;
  }
  bool Other(const char* kind) {
    if (depth_ == 0) return Refuse(absl::StrFormat("%s, not a JSON object", kind));
    if (depth_ == 1 && at_ != nullptr) at_->kind = kind;
    return true;
  }

  std::span<JsonField> fields_;
  std::string& keys_;
  JsonField* at_ = nullptr;
  int depth_ = 0;
};

absl::Status ReadFile(const SourceFile& file, const LineSink& sink) {
  ASSIGN_OR_RETURN(TextSource source, TextSource::Open(file));
  for (TextChunk chunk; source.Next(chunk);) {
    if (!chunk.problem.empty()) return absl::InvalidArgumentError(chunk.problem);
    for (LineCursor lines(chunk); lines.Next();) RETURN_IF_ERROR(sink(lines.line(), lines.source()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadFields(std::string_view line, const core::JsonSource& source, std::span<JsonField> fields,
                        std::string& keys) {
  keys.clear();
  for (JsonField& field : fields) field.value.reset(), field.kind.clear();
  FieldReader reader(fields, keys);
  return core::ReadJson(line, source, {.max_bytes = TextSource::kMaxLineBytes, .checks = core::JsonChecks::kTopLevel},
                        reader);
}

absl::Status ForEachLine(const std::string& path, std::string_view key, const LineSink& sink) {
  const absl::StatusOr<std::vector<SourceFile>> files = ListSourceFiles(path);
  if (!files.ok()) {
    std::error_code ignored;
    return absl::Status(files.status().code(), absl::StrFormat("%s: %s (relative paths count from %s)", key,
                                                               std::string(files.status().message()),
                                                               std::filesystem::current_path(ignored).string()));
  }
  for (const SourceFile& file : *files) {
    if (file.format != FileFormat::kJsonLines) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: %s is not JSONL; give a .jsonl file, plain, .gz or .zst", key, file.path));
    }
    RETURN_IF_ERROR(ReadFile(file, sink));
  }
  return absl::OkStatus();
}

}  // namespace conclave::data
