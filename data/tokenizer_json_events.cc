// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_json_events.h"

#include "absl/strings/str_format.h"

namespace conclave::data {

using Json = nlohmann::json;

class TokenizerJsonEvents::Handler final : public nlohmann::json_sax<Json> {
 public:
  explicit Handler(TokenizerJsonEvents& out) : out_(out) {}

  const std::string& problem() const { return problem_; }

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override { return Scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(value); }
  bool binary(binary_t&) override { return Refuse("binary data"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kVocabulary) return Scalar(value);
    out_.vocabulary_.emplace_back(std::move(key_), value);
    return true;
  }
  bool string(string_t& value) override {
    if (place_ == Place::kMerges) return WholeMerge(value);
    if (place_ == Place::kMergePair) return HalfMerge(value);
    return Scalar(std::move(value));
  }
  bool start_object(size_t) override {
    if (place_ == Place::kRest && IsModelMember("vocab")) return EnterMember(Place::kVocabulary);
    return Open(Json::object());
  }
  bool start_array(size_t) override {
    if (place_ == Place::kRest && IsModelMember("merges")) return EnterMember(Place::kMerges);
    if (place_ == Place::kMerges) return Enter(Place::kMergePair);
    return Open(Json::array());
  }
  bool key(string_t& name) override {
    key_ = std::move(name);
    if (place_ != Place::kRest || !open_.back()->contains(key_)) return true;
    return Refuse(absl::StrFormat("the key \"%s\" is given twice", key_));
  }
  bool end_object() override {
    if (place_ == Place::kVocabulary) return Enter(Place::kRest);
    open_.pop_back();
    return true;
  }
  bool end_array() override {
    if (place_ == Place::kMergePair) return num_halves_ == 2 ? Enter(Place::kMerges) : Refuse("a merge is not a pair");
    if (place_ == Place::kMerges) return Enter(Place::kRest);
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Refuse(absl::StrFormat("not valid JSON at byte %d", position));
  }

 private:
  enum class Place { kRest, kVocabulary, kMerges, kMergePair };
  static constexpr size_t kMaxDepth = 64;

  bool Refuse(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool Enter(Place place) {
    if (place == Place::kMergePair) num_halves_ = 0;
    place_ = place;
    return true;
  }

  // Leaves a null in the tree: a member that comes twice is seen.
  bool EnterMember(Place place) {
    Attach(nullptr);
    return Enter(place);
  }

  // True if the value that comes now is the member `name` of the top level's "model".
  bool IsModelMember(const char* name) const {
    return open_.size() == 2 && key_ == name && out_.rest_.contains("model") && open_[1] == &out_.rest_["model"];
  }

  // Puts a value where it belongs in the tree and returns its place.
  Json* Attach(Json value) {
    if (open_.empty()) {
      out_.rest_ = std::move(value);
      return &out_.rest_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }

  bool Scalar(Json value) {
    if (place_ == Place::kVocabulary)
      return Refuse(absl::StrFormat("model.vocab: \"%s\" has no id that is a number", key_));
    if (place_ != Place::kRest) return Refuse("model.merges: a merge is neither a text nor a pair of texts");
    Attach(std::move(value));
    return true;
  }

  bool Open(Json container) {
    if (place_ != Place::kRest) return Refuse("model: a list or an object inside of vocab or merges");
    if (open_.size() == kMaxDepth) return Refuse(absl::StrFormat("nested deeper than %d levels", kMaxDepth));
    open_.push_back(Attach(std::move(container)));
    return true;
  }

  // The old form: both halves in one text, with a blank between them.
  bool WholeMerge(const std::string& text) {
    const size_t blank = text.find(' ');
    if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos) {
      return Refuse(absl::StrFormat("model.merges: \"%s\" is not two halves with one blank between them", text));
    }
    out_.merges_.emplace_back(text.substr(0, blank), text.substr(blank + 1));
    return true;
  }

  bool HalfMerge(std::string& text) {
    if (++num_halves_ > 2) return Refuse("model.merges: a merge has more than two halves");
    if (num_halves_ == 1) {
      out_.merges_.emplace_back(std::move(text), "");
    } else {
      out_.merges_.back().second = std::move(text);
    }
    return true;
  }

  TokenizerJsonEvents& out_;
  Place place_ = Place::kRest;
  std::string key_, problem_;
  int num_halves_ = 0;
  std::vector<Json*> open_;  // stable: a container is only appended to while it is the innermost
};

absl::Status TokenizerJsonEvents::Read(std::string_view text) {
  Handler handler(*this);
  if (text.find('\0') != std::string_view::npos)
    return absl::InvalidArgumentError("not valid JSON: it has a zero byte");
  if (Json::sax_parse(text, &handler)) {
    if (rest_.is_object()) return absl::OkStatus();
    return absl::InvalidArgumentError("it is not a JSON object");
  }
  return absl::InvalidArgumentError(handler.problem().empty() ? "not valid JSON" : handler.problem());
}

}  // namespace conclave::data
