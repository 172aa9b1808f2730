// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file: the rules of the reference reader, and limits on counts, names and nesting.
// The shape of the text is fixed (object of objects of text and number lists), so anything nested deeper ends the parse
// at its opening bracket.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/json_sax.h"
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

class HeaderReader : public JsonSax {
 public:
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(size_t) {
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

  bool key(std::string& key) {
    if (!inside_) {
      name_ = key;
      in_metadata_ = key == "__metadata__";
      expect_ = Expect::kTensorOrMetadata;
      if (in_metadata_ && std::exchange(has_metadata_, true)) return Refuse("__metadata__ is given twice");
      return true;
    }
    if (in_metadata_) {
      expect_ = Expect::kText;
      text_ = &metadata[key];
      return metadata_keys_.insert(key).second || Refuse(absl::StrCat("__metadata__ has key ", Quoted(key), " twice"));
    }
    if (key == "dtype") return Field(has_dtype_, Expect::kDtype, nullptr, key);
    if (key == "shape") return Field(has_shape_, Expect::kList, &entries.back().shape, key);
    if (key == "data_offsets") return Field(has_range_, Expect::kList, &range_, key);
    return Refuse(Where(absl::StrCat("unknown field ", Quoted(key))));
  }

  bool string(std::string& text) {
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

  bool start_array(size_t) {
    if (expect_ != Expect::kList) return Refuse(Where("an array is not allowed here"));
    expect_ = Expect::kNumber;
    return true;
  }

  bool number_unsigned(uint64_t number) {
    if (expect_ != Expect::kNumber) return Refuse(Where("a number is not allowed here"));
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Refuse(Where(absl::StrCat(number, " is 2^63 or more")));
    }
    if (list_->size() == kMaxRank) return Refuse(Where(absl::StrCat("a list of more than ", kMaxRank, " numbers")));
    list_->push_back(static_cast<int64_t>(number));
    return true;
  }
  bool number_integer(int64_t) { return Refuse(Where("a negative number is not allowed")); }
  bool number_float(double, const std::string& text) {
    return Refuse(Where(absl::StrCat("not an integer below 2^63: ", Quoted(text))));
  }
  bool null() { return Refuse(Where("null is not allowed")); }
  bool boolean(bool) { return Refuse(Where("true and false are not allowed")); }

  bool end_array() {
    expect_ = Expect::kNothing;
    return true;
  }

  bool end_object() {
    if (!std::exchange(inside_, false) || in_metadata_) return true;
    if (!has_dtype_ || !has_shape_ || !has_range_) return Refuse(Where("dtype, shape or data_offsets is missing"));
    if (range_.size() != 2) return Refuse(Where("data_offsets is not a pair"));
    entries.back().begin = range_[0];
    entries.back().end = range_[1];
    return true;
  }

 private:
  bool Field(bool& seen, Expect value, std::vector<int64_t>* list, const std::string& key) {
    expect_ = value;
    list_ = list;
    return !std::exchange(seen, true) || Refuse(Where(absl::StrCat(key, " is given twice")));
  }
  std::string Where(std::string_view rule) const {
    return name_.empty() ? std::string(rule) : absl::StrFormat("tensor %s: %s", Quoted(name_), rule);
  }

  Expect expect_ = Expect::kRoot;
  bool inside_ = false, in_metadata_ = false, has_metadata_ = false;
  bool has_dtype_ = false, has_shape_ = false, has_range_ = false;
  std::string name_;
  std::vector<int64_t> range_;
  std::vector<int64_t>* list_ = nullptr;
  std::string* text_ = nullptr;
  std::set<std::string> metadata_keys_;
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

absl::Status CheckNamesDiffer(const std::vector<SafetensorsEntry>& entries) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  return twice == names.end() ? absl::OkStatus() : Broken(std::string(*twice), "the name is given twice");
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> SafetensorsFile::ParseHeader(
    std::string_view header, int64_t data_bytes, std::map<std::string, std::string>* metadata) {
  if (header.size() > static_cast<size_t>(kMaxSafetensorsHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", header.size(), " bytes, more than 64 MiB"));
  }
  HeaderReader reader;
  RETURN_IF_ERROR(ParseJson(header, reader));
  std::vector<SafetensorsEntry>& entries = reader.entries;
  for (SafetensorsEntry& entry : entries) RETURN_IF_ERROR(CheckEntry(entry, data_bytes));
  RETURN_IF_ERROR(CheckNamesDiffer(entries));
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
