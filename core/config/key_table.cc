// SPDX-License-Identifier: Apache-2.0
// Two visitors over the same fields: one for what a key is, one for what a Config says.
#include "core/config/key_table.h"

#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/fields.h"
#include "core/config/recipe.h"
#include "core/config/value_text.h"

namespace conclave::core {
namespace {

class KeyVisitor {
 public:
  KeyVisitor(std::string prefix, std::vector<KeyInfo>& keys) : prefix_(std::move(prefix)), keys_(keys) {}

  template <class T>
  void Field(const char* name, T& value, const char* unit, const char* help) {
    keys_.push_back({JoinKeys(prefix_, name), TypeText<T>(), unit, ValueText(value), help});
  }

  template <HasFields T>
  void Field(const char* name, T& value, const char* unit, const char* help) {
    keys_.push_back({JoinKeys(prefix_, name), "keys", unit, "", help});
    KeyVisitor inner(JoinKeys(prefix_, name), keys_);
    value.VisitFields(inner);
  }

  template <HasFields T>
  void Field(const char* name, std::vector<T>&, const char* unit, const char* help) {
    keys_.push_back({JoinKeys(prefix_, name), "a list of entries", unit, "[]", help});
    KeyVisitor inner(JoinKeys(prefix_, name) + ".N", keys_);
    T entry;
    entry.VisitFields(inner);
  }

 private:
  std::string prefix_;
  std::vector<KeyInfo>& keys_;
};

class ValueVisitor {
 public:
  ValueVisitor(std::string prefix, std::vector<KeyValue>& values) : prefix_(std::move(prefix)), values_(values) {}

  template <class T>
  void Field(const char* name, T& value, const char*, const char*) {
    values_.push_back({JoinKeys(prefix_, name), ValueText(value)});
  }

  template <HasFields T>
  void Field(const char* name, T& value, const char*, const char*) {
    ValueVisitor inner(JoinKeys(prefix_, name), values_);
    value.VisitFields(inner);
  }

  template <HasFields T>
  void Field(const char* name, std::vector<T>& list, const char*, const char*) {
    for (size_t i = 0; i < list.size(); ++i) {
      ValueVisitor inner(absl::StrFormat("%s.%d", JoinKeys(prefix_, name), i), values_);
      list[i].VisitFields(inner);
    }
  }

 private:
  std::string prefix_;
  std::vector<KeyValue>& values_;
};

template <class T>
std::vector<KeyValue> Flatten(T config) {
  std::vector<KeyValue> values;
  ValueVisitor visitor("", values);
  config.VisitFields(visitor);
  return values;
}

}  // namespace

std::vector<KeyInfo> AllKeys() {
  std::vector<KeyInfo> keys;
  KeyVisitor visitor("", keys);
  Config config;
  config.VisitFields(visitor);
  std::vector<StagePlan> stages;
  visitor.Field(
      "stages", stages, "",
      "runs one after the other: each entry has a name, and the keys above that it changes. Its maps are merged "
      "into those of the top level, lists replace them; stages.NAME.KEY=VALUE changes it");
  return keys;
}

std::vector<KeyValue> AllValues(const Config& config) { return Flatten(config); }
std::vector<KeyValue> AllValues(const ModelConfig& config) { return Flatten(config); }

}  // namespace conclave::core
