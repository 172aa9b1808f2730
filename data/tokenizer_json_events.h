// SPDX-License-Identifier: Apache-2.0
// One pass over a tokenizer.json: the two large members, model.vocab and model.merges, become flat lists, everything
// else, which is small, a tree.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json_tree_builder.h"

namespace conclave::data {

class TokenizerJsonEvents final : public core::JsonTreeBuilder {
 public:
  std::vector<std::pair<std::string, uint64_t>> TakeVocabulary() { return std::move(vocabulary_); }
  std::vector<std::pair<std::string, std::string>> TakeMerges() { return std::move(merges_); }  // halves

  bool Null() override { return IsLarge() ? Misplaced() : JsonTreeBuilder::Null(); }
  bool Bool(bool value) override { return IsLarge() ? Misplaced() : JsonTreeBuilder::Bool(value); }
  bool Negative(int64_t value) override { return IsLarge() ? Misplaced() : JsonTreeBuilder::Negative(value); }
  bool Float(double value, std::string_view text) override {
    return IsLarge() ? Misplaced() : JsonTreeBuilder::Float(value, text);
  }
  bool Unsigned(uint64_t value) override;
  bool String(std::string& text) override;
  bool Key(std::string& key) override;
  bool BeginObject() override;
  bool EndObject() override;
  bool BeginArray() override;
  bool EndArray() override;

 private:
  enum class Place { kRest, kVocabulary, kMerges, kMergePair };

  bool IsLarge() const { return place_ != Place::kRest; }
  bool Misplaced();
  bool Enter(Place place);
  bool WholeMerge(const std::string& text);
  bool HalfMerge(std::string& text);

  Place place_ = Place::kRest;
  std::string token_;  // key in the vocabulary
  int num_halves_ = 0;
  std::vector<std::pair<std::string, uint64_t>> vocabulary_;
  std::vector<std::pair<std::string, std::string>> merges_;
};

}  // namespace conclave::data
