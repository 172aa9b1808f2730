// SPDX-License-Identifier: Apache-2.0
#include "data/json_line.h"

#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace conclave::data {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxListedBytes = 200;  // of the keys that a message names

std::optional<Role> RoleOf(std::string_view name) {
  if (name == "system") return Role::kSystem;
  if (name == "user") return Role::kUser;
  if (name == "assistant") return Role::kAssistant;
  return std::nullopt;
}

// The list of {role, content} inside of a line; told of what stands at the depths below its key.
class ChatReader {
 public:
  void Begin() { *this = ChatReader(); }
  void BeginMessage() { messages_.emplace_back(), role_.clear(), has_role_ = has_content_ = false; }
  void Key(std::string_view name) { at_role_ = name == "role", at_content_ = name == "content"; }
  void Text(std::string& value) {
    if (at_role_) role_.swap(value), has_role_ = true;
    if (at_content_) messages_.back().content.swap(value), has_content_ = true;
  }
  void OtherValue(const char* kind) {
    if (at_role_ || at_content_) Problem(absl::StrFormat(".%s is %s, not a text", at_role_ ? "role" : "content", kind));
  }
  void OtherMessage(const char* kind) {
    messages_.emplace_back();
    Problem(absl::StrFormat(" is %s, not an object", kind));
  }
  void EndMessage() {
    if (!has_role_) return Problem(" has no role");
    if (!has_content_) return Problem(" has no content");
    const std::optional<Role> role = RoleOf(role_);
    if (!role)
      return Problem(absl::StrFormat(".role is \"%s\"; known are system, user, assistant", role_.substr(0, 40)));
    messages_.back().role = *role;
  }

  const std::string& problem() const { return problem_; }
  std::vector<Message>& messages() { return messages_; }

 private:
  void Problem(std::string_view what) {
    if (problem_.empty()) problem_ = absl::StrFormat("messages.%d%s", messages_.size() - 1, what);
  }

  std::vector<Message> messages_;
  std::string role_, problem_;
  bool at_role_ = false, at_content_ = false, has_role_ = false, has_content_ = false;
};

class LineReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  LineReader(const std::string& field, JsonDocument& document)
      : field_(field), reads_chats_(field == "messages" || field == "text"), document_(document) {}

  // After the last event: moves a chat into the document.
  std::string Finish() {
    if (!problem_.empty()) return problem_;
    if (!kind_.empty()) return absl::StrFormat("the field \"%s\" is %s, not a text", field_, kind_);
    if (found_text_) return "";
    if (!found_chat_) {
      return absl::StrFormat("no field \"%s\"; the object has: %s", field_, keys_.empty() ? "nothing" : keys_);
    }
    document_.is_chat = true;
    document_.messages.swap(chat_.messages());
    return chat_.problem();
  }

  bool null() override { return Other("null"); }
  bool boolean(bool) override { return Other("a boolean"); }
  bool number_integer(number_integer_t) override { return Other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Other("a number"); }
  bool binary(binary_t&) override { return Other("binary data"); }
  bool string(string_t& value) override {
    if (in_chat_ && depth_ == 3) return chat_.Text(value), true;
    if (depth_ != 1 || !at_field_) return Other("a text");
    document_.text.swap(value);
    kind_.clear();
    found_text_ = true;
    return true;
  }
  bool start_object(size_t) override {
    if (in_chat_ && depth_ == 2) {
      chat_.BeginMessage();
      return Deeper();
    }
    return (depth_ == 0 || Other("an object")) && Deeper();
  }
  bool start_array(size_t) override {
    if (reads_chats_ && at_messages_ && depth_ == 1) {
      in_chat_ = found_chat_ = true;
      chat_.Begin();
      if (at_field_) kind_.clear();
      return Deeper();
    }
    return Other("an array") && Deeper();
  }
  bool end_object() override {
    --depth_;
    if (in_chat_ && depth_ == 2) chat_.EndMessage();
    return true;
  }
  bool end_array() override {
    --depth_;
    in_chat_ = in_chat_ && depth_ > 1;
    return true;
  }
  bool key(string_t& name) override {
    if (in_chat_ && depth_ == 3) chat_.Key(name);
    if (depth_ != 1) return true;
    at_field_ = name == field_;
    at_messages_ = name == "messages";
    if (keys_.size() < kMaxListedBytes) keys_ += (keys_.empty() ? "" : ", ") + name.substr(0, kMaxListedBytes);
    return true;
  }
  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    problem_ = absl::StrFormat("not JSON (at byte %d of the line)", byte);
    return false;
  }

 private:
  // A value that nobody asked for, or of a type that nobody asked for.
  bool Other(const char* kind) {
    if (in_chat_ && depth_ == 2) chat_.OtherMessage(kind);
    if (in_chat_ && depth_ == 3) chat_.OtherValue(kind);
    if (depth_ == 1 && at_field_) kind_ = kind;
    if (depth_ == 0) problem_ = absl::StrFormat("%s, not a JSON object", kind);
    return depth_ > 0;
  }
  bool Deeper() {
    if (++depth_ > kMaxDepth) problem_ = absl::StrFormat("nested deeper than %d levels", kMaxDepth);
    return depth_ <= kMaxDepth;
  }

  const std::string& field_;
  const bool reads_chats_;
  JsonDocument& document_;
  ChatReader chat_;
  int depth_ = 0;
  bool at_field_ = false, at_messages_ = false, in_chat_ = false, found_text_ = false, found_chat_ = false;
  std::string kind_;  // of the last value of the field, if not a text
  std::string keys_, problem_;
};

}  // namespace

std::string ParseJsonLine(std::string_view line, const std::string& field, JsonDocument& document) {
  document.text.clear();
  document.messages.clear();
  document.is_chat = false;
  LineReader reader(field, document);
  nlohmann::json::sax_parse(line.begin(), line.end(), &reader);
  return reader.Finish();
}

}  // namespace conclave::data
