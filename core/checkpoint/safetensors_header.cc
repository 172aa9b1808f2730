// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file: the rules of the reference reader, and limits on counts, names and nesting.
// The shape of the text is fixed (object of objects of text and number lists), so anything nested deeper ends the parse
// at its opening bracket.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/json.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/number_formats.h"
#include "core/checkpoint/safetensors.h"

namespace conclave::core {
namespace {

constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 512;

absl::Status Broken(const std::string& name, std::string_view rule) {
  return absl::InvalidArgumentError(absl::StrFormat("tensor %s: %s", Quoted(name), rule));
}

// What the grammar allows as the next value.
enum class Expect { kNothing, kRoot, kTensorOrMetadata, kText, kDtype, kList, kNumber };

class HeaderReader final : public JsonEvents {
 public:
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

  bool BeginObject() override {
    if (expect_ == Expect::kRoot) {
      expect_ = Expect::kNothing;
      return true;
    }
    if (expect_ != Expect::kTensorOrMetadata) return Refuse(Where("an object is not allowed here"));
    expect_ = Expect::kNothing;
    inside_ = true;
    if (in_metadata_) return true;
    if (entries.size() == kMaxTensors) return Refuse(absl::StrCat("more than ", kMaxTensors, " tensors"));
    entries.push_back({.name = name_, .dtype = DType::kU8, .dtype_name = {}, .shape = {}});
    range_.clear();
    has_dtype_ = has_shape_ = has_range_ = false;
    return true;
  }

  bool Key(std::string& key) override {
    if (!inside_) {
      name_ = key;
      in_metadata_ = key == "__metadata__";
      expect_ = Expect::kTensorOrMetadata;
      return true;
    }
    if (in_metadata_) {
      expect_ = Expect::kText;
      text_ = &metadata[key];
      return true;
    }
    if (key == "dtype") return Field(has_dtype_, Expect::kDtype, nullptr);
    if (key == "shape") return Field(has_shape_, Expect::kList, &entries.back().shape);
    if (key == "data_offsets") return Field(has_range_, Expect::kList, &range_);
    return Refuse(Where(absl::StrCat("unknown field ", Quoted(key))));
  }

  bool String(std::string& text) override {
    if (expect_ == Expect::kText) {
      *text_ = text;
    } else if (expect_ == Expect::kDtype) {
      entries.back().dtype_name = text;
    } else {
      return Refuse(Where(absl::StrCat("text is not allowed here: ", Quoted(text))));
    }
    expect_ = Expect::kNothing;
    return true;
  }

  bool BeginArray() override {
    if (expect_ != Expect::kList) return Refuse(Where("an array is not allowed here"));
    expect_ = Expect::kNumber;
    return true;
  }

  bool Unsigned(uint64_t number) override {
    if (expect_ != Expect::kNumber) return Refuse(Where("a number is not allowed here"));
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Refuse(Where(absl::StrCat(number, " is 2^63 or more")));
    }
    if (list_->size() == kMaxRank) return Refuse(Where(absl::StrCat("a list of more than ", kMaxRank, " numbers")));
    list_->push_back(static_cast<int64_t>(number));
    return true;
  }
  bool Negative(int64_t) override { return Refuse(Where("a negative number is not allowed")); }
  bool Float(double, std::string_view text) override {
    return Refuse(Where(absl::StrCat("not an integer below 2^63: ", Quoted(text))));
  }
  bool Null() override { return Refuse(Where("null is not allowed")); }
  bool Bool(bool) override { return Refuse(Where("true and false are not allowed")); }

  bool EndArray() override {
    expect_ = Expect::kNothing;
    return true;
  }

  bool EndObject() override {
    if (!std::exchange(inside_, false) || in_metadata_) return true;
    if (!has_dtype_ || !has_shape_ || !has_range_) return Refuse(Where("dtype, shape or data_offsets is missing"));
    if (range_.size() != 2) return Refuse(Where("data_offsets is not a pair"));
    entries.back().begin = range_[0];
    entries.back().end = range_[1];
    return true;
  }

 private:
  bool Field(bool& seen, Expect value, std::vector<int64_t>* list) {
    expect_ = value;
    list_ = list;
    seen = true;
    return true;
  }
  std::string Where(std::string_view rule) const {
    return name_.empty() ? std::string(rule) : absl::StrFormat("tensor %s: %s", Quoted(name_), rule);
  }

  Expect expect_ = Expect::kRoot;
  bool inside_ = false, in_metadata_ = false;
  bool has_dtype_ = false, has_shape_ = false, has_range_ = false;
  std::string name_;
  std::vector<int64_t> range_;
  std::vector<int64_t>* list_ = nullptr;
  std::string* text_ = nullptr;
};

// The rules that concern one tensor; sets its dtype.
absl::Status CheckEntry(SafetensorsEntry& entry, int64_t data_bytes) {
  const auto printable = [](char c) { return c >= 0x20 && c < 0x7f; };
  if (entry.name.empty() || entry.name.size() > kMaxNameBytes ||
      !std::all_of(entry.name.begin(), entry.name.end(), printable)) {
    return Broken(entry.name, absl::StrCat("a name must be 1 to ", kMaxNameBytes, " printable ASCII characters"));
  }
  const StoredTypeInfo* type = FindStoredType(entry.dtype_name);
  if (type == nullptr) return Broken(entry.name, absl::StrCat("unknown dtype ", Quoted(entry.dtype_name)));
  entry.dtype = type->dtype.value_or(DType::kU8);
  int64_t bits = type->bits;
  for (int64_t size : entry.shape) {
    if (__builtin_mul_overflow(bits, size, &bits)) return Broken(entry.name, "its shape has 2^63 bits or more");
  }
  if (bits % 8 != 0) return Broken(entry.name, "its elements do not fill whole bytes");
  if (entry.begin > entry.end) return Broken(entry.name, "data_offsets run backwards");
  if (entry.end > data_bytes) {
    return Broken(entry.name, absl::StrFormat("data_offsets end at %d but the file has only %d bytes of data",
                                              entry.end, data_bytes));
  }
  if (entry.end - entry.begin != bits / 8) {
    return Broken(entry.name, absl::StrFormat("dtype and shape need %d bytes but data_offsets span %d", bits / 8,
                                              entry.end - entry.begin));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> SafetensorsFile::ParseHeader(
    std::string_view header, int64_t data_bytes, std::map<std::string, std::string>* metadata) {
  if (!header.starts_with('{')) return absl::InvalidArgumentError("it does not begin with '{'");
  HeaderReader reader;
  RETURN_IF_ERROR(ReadJson(header, {}, {.max_bytes = kMaxSafetensorsHeaderBytes}, reader));
  std::vector<SafetensorsEntry>& entries = reader.entries;
  for (SafetensorsEntry& entry : entries) RETURN_IF_ERROR(CheckEntry(entry, data_bytes));
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end) {
      return Broken(entry.name,
                    absl::StrFormat("begins at byte %d where %d was expected: a hole or an overlap", entry.begin, end));
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the tensors end at byte %d but the file has %d bytes of data", end, data_bytes));
  }
  if (metadata != nullptr) *metadata = std::move(reader.metadata);
  return std::move(entries);
}

}  // namespace conclave::core
