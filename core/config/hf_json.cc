// SPDX-License-Identifier: Apache-2.0
#include "core/config/hf_json.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace conclave::core {

using nlohmann::json;

std::string JsonText(const json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
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
