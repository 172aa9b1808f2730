// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_json_events.h"

#include "absl/strings/str_format.h"

namespace conclave::data {

bool TokenizerJsonEvents::Misplaced() {
  if (place_ == Place::kVocabulary) {
    return Refuse(absl::StrFormat("model.vocab: \"%s\" has no id that is a number", token_));
  }
  return Refuse("model.merges: a merge is neither a text nor a pair of texts");
}

bool TokenizerJsonEvents::Enter(Place place) {
  if (place == Place::kMergePair) num_halves_ = 0;
  place_ = place;
  return true;
}

bool TokenizerJsonEvents::Unsigned(uint64_t value) {
  if (!IsLarge()) return JsonTreeBuilder::Unsigned(value);
  if (place_ != Place::kVocabulary) return Misplaced();
  vocabulary_.emplace_back(std::move(token_), value);
  return true;
}

bool TokenizerJsonEvents::String(std::string& text) {
  if (place_ == Place::kMerges) return WholeMerge(text);
  if (place_ == Place::kMergePair) return HalfMerge(text);
  return IsLarge() ? Misplaced() : JsonTreeBuilder::String(text);
}

bool TokenizerJsonEvents::Key(std::string& key) {
  if (!IsLarge()) return JsonTreeBuilder::Key(key);
  token_ = std::move(key);
  return true;
}

bool TokenizerJsonEvents::BeginObject() {
  if (IsLarge()) return Misplaced();
  return IsMember("model", "vocab") ? Enter(Place::kVocabulary) : JsonTreeBuilder::BeginObject();
}

bool TokenizerJsonEvents::EndObject() {
  return place_ == Place::kVocabulary ? Enter(Place::kRest) : JsonTreeBuilder::EndObject();
}

bool TokenizerJsonEvents::BeginArray() {
  if (place_ == Place::kMerges) return Enter(Place::kMergePair);
  if (IsLarge()) return Misplaced();
  return IsMember("model", "merges") ? Enter(Place::kMerges) : JsonTreeBuilder::BeginArray();
}

bool TokenizerJsonEvents::EndArray() {
  if (place_ == Place::kMerges) return Enter(Place::kRest);
  if (place_ != Place::kMergePair) return JsonTreeBuilder::EndArray();
  return num_halves_ == 2 ? Enter(Place::kMerges) : Refuse("model.merges: a merge is not a pair");
}

// The old form: both halves in one text, with a blank between them.
bool TokenizerJsonEvents::WholeMerge(const std::string& text) {
  const size_t blank = text.find(' ');
  if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos) {
    return Refuse(absl::StrFormat("model.merges: \"%s\" is not two halves with one blank between them", text));
  }
  merges_.emplace_back(text.substr(0, blank), text.substr(blank + 1));
  return true;
}

bool TokenizerJsonEvents::HalfMerge(std::string& text) {
  if (++num_halves_ > 2) return Refuse("model.merges: a merge has more than two halves");
  if (num_halves_ == 1) {
    merges_.emplace_back(std::move(text), "");
  } else {
    merges_.back().second = std::move(text);
  }
  return true;
}

}  // namespace conclave::data
