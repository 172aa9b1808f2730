// SPDX-License-Identifier: Apache-2.0
#include "core/base/json_tree.h"

#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {

using nlohmann::json;

class TreeBuilder final : public JsonEvents {
 public:
  json Take() { return std::move(root_); }

  bool Null() override { return Add(nullptr); }
  bool Bool(bool value) override { return Add(value); }
  bool Negative(int64_t value) override { return Add(value); }
  bool Unsigned(uint64_t value) override { return Add(value); }
  bool Float(double value, std::string_view) override { return Add(value); }
  bool String(std::string& text) override { return Add(std::move(text)); }
  bool Key(std::string& key) override {
    key_ = std::move(key);
    return true;
  }
  bool BeginObject() override { return Open(json::object()); }
  bool EndObject() override { return Close(); }
  bool BeginArray() override { return Open(json::array()); }
  bool EndArray() override { return Close(); }

 private:
  json& Attach(json value) {
    if (open_.empty()) return root_ = std::move(value);
    json& parent = *open_.back();
    if (parent.is_object()) return parent[key_] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  bool Add(json value) {
    Attach(std::move(value));
    return true;
  }
  // An open node does not move: its parent grows only after it is closed.
  bool Open(json value) {
    open_.push_back(&Attach(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  json root_;
  std::vector<json*> open_;
  std::string key_;
};

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text, const JsonSource& source, const JsonLimits& limits) {
  TreeBuilder builder;
  RETURN_IF_ERROR(ReadJson(text, source, limits, builder));
  return builder.Take();
}

}  // namespace conclave::core
