// SPDX-License-Identifier: Apache-2.0
// Config to YAML: block style, one key per line, lists of numbers in brackets. Text is made directly, so that what is
// written does not depend on a library's taste.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/fields.h"
#include "core/config/key_table.h"
#include "core/config/value_text.h"
#include "core/config/yaml.h"

namespace conclave::core {
namespace {

class YamlWriter {
 public:
  explicit YamlWriter(int indent) : indent_(indent, ' ') {}

  std::string Take() { return std::move(text_); }

  template <class T>
  void Field(const char* name, T& value, const char*, const char*) {
    text_ += absl::StrFormat("%s%s: %s\n", indent_, name, ValueText(value));
  }

  template <HasFields T>
  void Field(const char* name, T& value, const char*, const char*) {
    text_ += absl::StrFormat("%s%s:\n%s", indent_, name, Entries(value, 2));
  }

  // A folder decides all of its model (see yaml.h).
  void Field(const char* name, ModelConfig& model, const char* unit, const char* help) {
    if (model.from.empty()) return Field<ModelConfig>(name, model, unit, help);
    text_ += absl::StrFormat("%s%s:\n%s  from: %s\n", indent_, name, indent_, ValueText(model.from));
  }

  template <HasFields T>
  void Field(const char* name, std::vector<T>& list, const char*, const char*) {
    text_ += absl::StrFormat("%s%s:%s\n", indent_, name, list.empty() ? " []" : "");
    for (T& entry : list) {
      std::string keys = Entries(entry, 4);
      keys[indent_.size() + 2] = '-';
      text_ += keys;
    }
  }

 private:
  template <HasFields T>
  std::string Entries(T& value, int deeper) {
    YamlWriter inner(static_cast<int>(indent_.size()) + deeper);
    value.VisitFields(inner);
    return inner.Take();
  }

  std::string indent_;
  std::string text_;
};

}  // namespace

std::string WriteConfig(const Config& config) {
  Config copy = config;  // VisitFields hands out references
  YamlWriter writer(0);
  copy.VisitFields(writer);
  return writer.Take();
}

std::vector<std::string> DifferingKeys(const Config& a, const Config& b) {
  std::map<std::string, std::string> after;
  for (KeyValue& value : AllValues(b)) after[value.path] = std::move(value.text);
  std::vector<std::string> differing;
  for (const KeyValue& value : AllValues(a)) {
    const auto found = after.find(value.path);
    if (found == after.end()) {
      differing.push_back(absl::StrFormat("%s: %s -> (removed)", value.path, value.text));
      continue;
    }
    if (found->second != value.text) {
      differing.push_back(absl::StrFormat("%s: %s -> %s", value.path, value.text, found->second));
    }
    after.erase(found);
  }
  for (const auto& [path, text] : after) differing.push_back(absl::StrFormat("%s: (absent) -> %s", path, text));
  return differing;
}

}  // namespace conclave::core
