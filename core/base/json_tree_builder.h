// SPDX-License-Identifier: Apache-2.0
// Events to a tree. A reader of a large file derives from it to keep the large members for itself and the rest as a
// tree.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

#include "core/base/json.h"

namespace conclave::core {

class JsonTreeBuilder : public JsonEvents {
 public:
  nlohmann::json Take() { return std::move(root_); }

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
  bool BeginObject() override { return Open(nlohmann::json::object()); }
  bool EndObject() override { return Close(); }
  bool BeginArray() override { return Open(nlohmann::json::array()); }
  bool EndArray() override { return Close(); }

 protected:
  bool Add(nlohmann::json value) {
    Attach(std::move(value));
    return true;
  }

  // True if the value that comes now is the member outer.inner of the whole text.
  bool IsMember(const char* outer, const char* inner) const {
    if (open_.size() != 2 || key_ != inner || !root_.is_object()) return false;
    const auto found = root_.find(outer);
    return found != root_.end() && &*found == open_.back();
  }

 private:
  nlohmann::json& Attach(nlohmann::json value) {
    if (open_.empty()) return root_ = std::move(value);
    nlohmann::json& parent = *open_.back();
    if (parent.is_object()) return parent[key_] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  // An open node does not move: its parent grows only after it is closed.
  bool Open(nlohmann::json value) {
    open_.push_back(&Attach(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  nlohmann::json root_;
  std::vector<nlohmann::json*> open_;
  std::string key_;
};

}  // namespace conclave::core
