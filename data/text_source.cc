// SPDX-License-Identifier: Apache-2.0
// JSON is read by events, never as a tree: only the wanted field is kept, nesting is counted and bounded.
#include "data/text_source.h"

#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxDocumentBytes = size_t{2} << 30;  // a packed file can claim any size
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::array<std::string_view, 6> kNotText = {".zst", ".xz", ".bz2", ".zip", ".tar", ".parquet"};

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

// Takes one text out of a top-level object; `problem` says why a line has none. Of duplicate keys the last one counts.
class FieldReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  FieldReader(const std::string& field, std::string& text) : field_(field), text_(text) {}

  std::string Problem() const {
    if (!problem_.empty()) return problem_;
    if (!kind_.empty()) return absl::StrFormat("the field \"%s\" is %s, not a text", field_, kind_);
    if (!found_)
      return absl::StrFormat("no field \"%s\"; the object has: %s", field_, keys_.empty() ? "nothing" : keys_);
    return "";
  }

  bool null() override { return Other("null"); }
  bool boolean(bool) override { return Other("a boolean"); }
  bool number_integer(number_integer_t) override { return Other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Other("a number"); }
  bool binary(binary_t&) override { return Other("binary data"); }
  bool string(string_t& value) override {
    if (!Wanted()) return Other("a text");
    text_.swap(value);
    kind_.clear();
    found_ = true;
    return true;
  }
  bool start_object(size_t) override { return (depth_ == 0 || Other("an object")) && Deeper(); }
  bool start_array(size_t) override { return Other("an array") && Deeper(); }
  bool end_object() override { return Shallower(); }
  bool end_array() override { return Shallower(); }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    at_field_ = name == field_;
    if (keys_.size() < 200) keys_ += (keys_.empty() ? "" : ", ") + name;
    return true;
  }
  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    problem_ = absl::StrFormat("not JSON (at byte %d of the line)", byte);
    return false;
  }

 private:
  bool Wanted() const { return depth_ == 1 && at_field_; }
  bool Other(const char* kind) {
    if (Wanted()) kind_ = kind;
    if (depth_ == 0) problem_ = absl::StrFormat("%s, not a JSON object", kind);
    return depth_ > 0;
  }
  bool Deeper() {
    if (++depth_ > kMaxDepth) problem_ = absl::StrFormat("nested deeper than %d levels", kMaxDepth);
    return depth_ <= kMaxDepth;
  }
  bool Shallower() {
    --depth_;
    return true;
  }

  const std::string& field_;
  std::string& text_;
  int depth_ = 0;
  bool at_field_ = false, found_ = false;
  std::string kind_;  // of the last value of the field, if not a text
  std::string keys_, problem_;
};

}  // namespace

TextSource::TextSource(std::string path, std::string field, Format format, std::unique_ptr<ByteReader> reader)
    : path_(std::move(path)), field_(std::move(field)), format_(format), reader_(std::move(reader)) {}

absl::StatusOr<TextSource> TextSource::Open(const std::string& path, const std::string& field) {
  for (const std::string_view ending : kNotText) {
    if (path.ends_with(ending)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: %s files are not read; supported are text and .jsonl, plain or .gz", path, ending));
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<ByteReader> reader, ByteReader::Open(path));
  const bool lines = path.ends_with(".jsonl") || path.ends_with(".jsonl.gz");
  return TextSource(path, field, lines ? Format::kJsonLines : Format::kWholeFile, std::move(reader));
}

absl::StatusOr<bool> TextSource::ReadRecord(std::string& record) {
  record.clear();
  for (bool found_any = false;; found_any = true) {
    if (piece_.empty()) {
      ASSIGN_OR_RETURN(piece_, reader_->Next());
      num_bytes_ += static_cast<int64_t>(piece_.size());
    }
    if (piece_.empty()) return found_any;
    const size_t end = format_ == Format::kJsonLines ? piece_.find('\n') : std::string_view::npos;
    const std::string_view part = piece_.substr(0, end);
    if (record.size() + part.size() > kMaxDocumentBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s:%d: more than 2 GiB in one document; split it", path_, num_records_ + 1));
    }
    record.append(part);
    piece_.remove_prefix(end == std::string_view::npos ? piece_.size() : end + 1);
    if (end != std::string_view::npos) return true;
  }
}

absl::Status TextSource::ParseLine(const std::string& line, std::string& document) const {
  FieldReader reader(field_, document);
  nlohmann::json::sax_parse(line, &reader);
  const std::string problem = reader.Problem();
  if (problem.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s:%d: %s", path_, num_records_, problem));
}

absl::StatusOr<bool> TextSource::Next(std::string& document) {
  std::string record;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, ReadRecord(record));
    if (!found) break;
    if (++num_records_ == 1 && record.starts_with(kByteOrderMark)) record.erase(0, kByteOrderMark.size());
    if (format_ == Format::kWholeFile) {
      document.swap(record);
    } else if (IsBlank(record)) {
      continue;
    } else {
      RETURN_IF_ERROR(ParseLine(record, document));
    }
    if (!document.empty()) return true;
    ++num_empty_documents_;
  }
  if (num_bytes_ == 0) return absl::InvalidArgumentError(absl::StrFormat("%s: the file is empty", path_));
  return false;
}

}  // namespace conclave::data
