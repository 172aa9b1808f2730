// SPDX-License-Identifier: Apache-2.0
// Two passes over the text: a handler of nlohmann's event parser that only looks, then the ordinary parser.
#include "core/config/hf_json.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

using nlohmann::json;

// Stops at the first duplicate key, too deep nesting or broken token, and says which.
class JsonGuard : public json::json_sax_t {
 public:
  const std::string& problem() const { return problem_; }
  size_t position() const { return position_; }  // of a broken token; 0 = not known

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(json::number_integer_t) override { return true; }
  bool number_unsigned(json::number_unsigned_t) override { return true; }
  bool number_float(json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(json::binary_t&) override { return true; }
  bool start_object(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    if (open_.back().insert(name).second) return true;
    return Stop("duplicate key " + JsonText(name));
  }

  bool parse_error(size_t position, const std::string& token, const json::exception&) override {
    position_ = position;
    return Stop("not valid JSON at \"" + JsonText(token).substr(1, 40));
  }

 private:
  bool Open() {
    if (open_.size() == static_cast<size_t>(kMaxJsonDepth)) {
      return Stop(absl::StrFormat("nested deeper than %d levels", kMaxJsonDepth));
    }
    open_.emplace_back();
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }
  bool Stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  std::vector<std::set<std::string>> open_;  // keys of the objects that are open; arrays have none
  std::string problem_;
  size_t position_ = 0;
};

}  // namespace

std::string JsonText(const json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

absl::StatusOr<json> ParseJson(std::string_view text, const std::string& name) {
  if (text.size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes; at most %d are read", name, text.size(), kMaxJsonBytes));
  }
  JsonGuard guard;
  if (!json::sax_parse(text.begin(), text.end(), &guard)) {
    const std::string_view before = text.substr(0, guard.position() == 0 ? 0 : guard.position() - 1);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 = 0
    const std::string place = guard.position() == 0 ? name : absl::StrFormat("%s:%d:%d", name, line, column);
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", place, guard.problem()));
  }
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

const json* JsonFields::Find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::Only(const char* key, std::initializer_list<json> supported, std::string_view why) {
  const json* found = Find(key);
  if (found == nullptr || std::find(supported.begin(), supported.end(), *found) != supported.end()) return;
  Fail(key, absl::StrFormat("%s is not supported: %s", JsonText(*found), why));
}

void JsonFields::Fail(std::string_view key, std::string_view why) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrFormat("%s: %s%s: %s", name_, prefix_, key, why));
}

void JsonFields::Read(const char* key, const json& found, bool& value) {
  if (!found.is_boolean()) return Fail(key, JsonText(found) + " is neither true nor false");
  value = found.get<bool>();
}

void JsonFields::Read(const char* key, const json& found, int64_t& value) {
  const bool fits = !found.is_number_unsigned() || found.get<uint64_t>() <= uint64_t{INT64_MAX};
  if (!found.is_number_integer() || !fits) return Fail(key, JsonText(found) + " is not a whole number");
  value = found.get<int64_t>();
}

void JsonFields::Read(const char* key, const json& found, double& value) {
  if (!found.is_number()) return Fail(key, JsonText(found) + " is not a number");
  value = found.get<double>();
}

void JsonFields::Read(const char* key, const json& found, std::string& value) {
  if (!found.is_string()) return Fail(key, JsonText(found) + " is not text");
  value = found.get<std::string>();
}

void JsonFields::Read(const char* key, const json& found, std::vector<int64_t>& value) {
  if (!found.is_array()) return Fail(key, JsonText(found) + " is not a list");
  value.assign(found.size(), 0);
  for (size_t i = 0; i < value.size(); ++i) Read(key, found[i], value[i]);
}

}  // namespace conclave::core
