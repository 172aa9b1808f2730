// SPDX-License-Identifier: Apache-2.0
#include "data/json_line.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr size_t kMaxNamedBytes = 200;  // of the keys that a message names

std::optional<Role> RoleOf(std::string_view name) {
  if (name == "system") return Role::kSystem;
  if (name == "user") return Role::kUser;
  if (name == "assistant") return Role::kAssistant;
  return std::nullopt;
}

// The list of {role, content} inside of a line; told of what stands at the depths below its key.
class ChatReader {
 public:
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

class LineReader final : public core::JsonEvents {
 public:
  LineReader(const std::string& field, JsonDocument& document)
      : field_(field), reads_chats_(field == "messages" || field == "text"), document_(document) {}

  // After the last event: moves a chat into the document, or says why there is nothing.
  std::string Finish() {
    if (!kind_.empty()) return absl::StrFormat("the field \"%s\" is %s, not a text", field_, kind_);
    if (found_text_) return "";
    if (!found_chat_) {
      return absl::StrFormat("no field \"%s\"; the object has: %s", field_, keys_.empty() ? "nothing" : keys_);
    }
    document_.is_chat = true;
    document_.messages.swap(chat_.messages());
    return chat_.problem();
  }

  bool Null() override { return Other("null"); }
  bool Bool(bool) override { return Other("a boolean"); }
  bool Negative(int64_t) override { return Other("a number"); }
  bool Unsigned(uint64_t) override { return Other("a number"); }
  bool Float(double, std::string_view) override { return Other("a number"); }
  bool String(std::string& value) override {
    if (in_chat_ && depth_ == 3) return chat_.Text(value), true;
    if (depth_ != 1 || !at_field_) return Other("a text");
    document_.text.swap(value);
    found_text_ = true;
    return true;
  }
  bool BeginObject() override {
    if (in_chat_ && depth_ == 2) {
      chat_.BeginMessage();
    } else if (depth_ > 0 && !Other("an object")) {
      return false;
    }
    ++depth_;
    return true;
  }
  bool BeginArray() override {
    if (reads_chats_ && at_messages_ && depth_ == 1) {
      in_chat_ = found_chat_ = true;
    } else if (!Other("an array")) {
      return false;
    }
    ++depth_;
    return true;
  }
  bool EndObject() override {
    --depth_;
    if (in_chat_ && depth_ == 2) chat_.EndMessage();
    return true;
  }
  bool EndArray() override {
    --depth_;
    in_chat_ = in_chat_ && depth_ > 1;
    return true;
  }
  bool Key(std::string& name) override {
    if (in_chat_ && depth_ == 3) chat_.Key(name);
    if (depth_ != 1) return true;
    at_field_ = name == field_;
    at_messages_ = name == "messages";
    if (keys_.size() < kMaxNamedBytes) keys_ += (keys_.empty() ? "" : ", ") + name.substr(0, kMaxNamedBytes);
    return true;
  }

 private:
  // A value that nobody asked for, or of a type that nobody asked for.
  bool Other(const char* kind) {
    if (depth_ == 0) return Refuse(absl::StrFormat("%s, not a JSON object", kind));
    if (in_chat_ && depth_ == 2) chat_.OtherMessage(kind);
    if (in_chat_ && depth_ == 3) chat_.OtherValue(kind);
    if (depth_ == 1 && at_field_) kind_ = kind;
    return true;
  }

  const std::string& field_;
  const bool reads_chats_;
  JsonDocument& document_;
  ChatReader chat_;
  int depth_ = 0;
  bool at_field_ = false, at_messages_ = false, in_chat_ = false, found_text_ = false, found_chat_ = false;
  std::string kind_;  // of the field's value, if not a text
  std::string keys_;
};

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace

bool LineCursor::Next() {
  while (!rest_.empty()) {
    const size_t end = std::min(rest_.find('\n'), rest_.size());
    line_ = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++next_;
    if (!IsBlank(line_)) return true;
  }
  return false;
}

absl::Status ParseJsonLine(std::string_view line, const core::JsonSource& source, const std::string& field,
                           JsonDocument& document) {
  document.text.clear();
  document.messages.clear();
  document.is_chat = false;
  const auto place = [&] { return absl::StrFormat("%s:%d: ", source.name, source.first_line); };
  if (static_cast<int64_t>(line.size()) > TextSource::kMaxLineBytes) {
    return absl::InvalidArgumentError(place() + TextSource::kLineTooLong);
  }
  LineReader reader(field, document);
  RETURN_IF_ERROR(core::ReadJson(
      line, source, {.max_bytes = TextSource::kMaxLineBytes, .checks = core::JsonChecks::kTopLevel}, reader));
  const std::string problem = reader.Finish();
  if (problem.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(place() + problem);
}

}  // namespace conclave::data
