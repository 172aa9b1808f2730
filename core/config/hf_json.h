// SPDX-License-Identifier: Apache-2.0
// Reads single keys of a JSON object with a type, and remembers the first that is wrong.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace conclave::core {

// The keys of one object. `name` (of the file) and `prefix` ("rope_scaling.") stand in messages. A key that is null
// counts as absent. After the first error all reads leave their targets alone.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string name, std::string prefix)
      : object_(object), name_(std::move(name)), prefix_(std::move(prefix)) {}

  const nlohmann::json* Find(const char* key) const;  // nullptr if absent or null
  bool Has(const char* key) const { return Find(key) != nullptr; }
  bool IsNull(const char* key) const { return object_.contains(key) && object_[key].is_null(); }

  // An absent key leaves `value` as it is.
  template <class T>
  void Optional(const char* key, T& value) {
    if (const nlohmann::json* found = Find(key); found != nullptr && status_.ok()) Read(key, *found, value);
  }
  template <class T>
  void Required(const char* key, T& value) {
    if (!Has(key)) Fail(key, "is missing");
    Optional(key, value);
  }

  // Refuses `key` unless it is absent or one of `supported`; `why` says what else cannot be done.
  void Only(const char* key, std::initializer_list<nlohmann::json> supported, std::string_view why);
  void Fail(std::string_view key, std::string_view why);

  // Takes over the first error of an inner object.
  void Adopt(const JsonFields& inner) {
    if (status_.ok()) status_ = inner.status_;
  }

  const absl::Status& status() const { return status_; }
  const std::string& name() const { return name_; }

 private:
  void Read(const char* key, const nlohmann::json& found, bool& value);
  void Read(const char* key, const nlohmann::json& found, int64_t& value);
  void Read(const char* key, const nlohmann::json& found, double& value);
  void Read(const char* key, const nlohmann::json& found, std::string& value);
  void Read(const char* key, const nlohmann::json& found, std::vector<int64_t>& value);

  const nlohmann::json& object_;
  std::string name_, prefix_;
  absl::Status status_;
};

// At most 80 characters of a value, for messages.
std::string JsonText(const nlohmann::json& value);

}  // namespace conclave::core
