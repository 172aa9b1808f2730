// SPDX-License-Identifier: Apache-2.0
#include "data/sft_samples.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/json_fields.h"
#include "data/json_line.h"
#include "data/text_hash.h"

namespace conclave::data {
namespace {

absl::Status Broken(const std::string& place, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", place, why));
}

std::string Place(const core::JsonSource& source) { return absl::StrFormat("%s:%d", source.name, source.first_line); }

constexpr std::string_view kResponseFields[] = {"response", "solution", "answer"};

// Reads lines of both kinds.
class LineForm {
 public:
  explicit LineForm(const core::SourceConfig& source) : answer_after_(source.answer_after) {
    fields_.push_back({.name = "messages"});
    AddFields(source.prompt_field, kPromptFields);
    num_prompt_fields_ = fields_.size() - 1;
    AddFields(source.answer_field, kResponseFields);
  }

  absl::Status Read(std::string_view line, const core::JsonSource& source, std::vector<Message>& messages) {
    RETURN_IF_ERROR(ReadFields(line, source, fields_, keys_));
    if (fields_[0].kind == "an array") {
      RETURN_IF_ERROR(ParseJsonLine(line, source, "messages", document_));
      messages.swap(document_.messages);
      return absl::OkStatus();
    }
    const std::span<const JsonField> fields(fields_);
    const JsonField* prompt = FirstGiven(fields.subspan(1, num_prompt_fields_));
    const JsonField* response = FirstGiven(fields.subspan(1 + num_prompt_fields_));
    if (prompt == nullptr || response == nullptr) return Broken(Place(source), Missing());
    messages = {{Role::kUser, *prompt->value}, {Role::kAssistant, *response->value}};
    if (answer_after_.empty() || ShowThinking(messages[1].content)) return absl::OkStatus();
    return Broken(Place(source), absl::StrFormat("the field \"%s\" has no \"%s\" between thinking and answer",
                                                 response->name, answer_after_));
  }

 private:
  void AddFields(const std::string& named, std::span<const std::string_view> usual) {
    if (!named.empty()) {
      fields_.push_back({.name = named});
      return;
    }
    for (const std::string_view name : usual) fields_.push_back({.name = std::string(name)});
  }

  // "16 - 3 = 13 #### 13" as a response that rewards understand; false if the mark is not in it.
  bool ShowThinking(std::string& response) const {
    const size_t at = response.rfind(answer_after_);
    if (at == std::string::npos) return false;
    const std::string thinking = response.substr(0, at), answer = response.substr(at + answer_after_.size());
    response = absl::StrFormat("<think>%s</think><answer>%s</answer>", absl::StripAsciiWhitespace(thinking),
                               absl::StripAsciiWhitespace(answer));
    return true;
  }

  std::string Missing() const {
    for (const JsonField& field : fields_) {
      if (!field.kind.empty()) return absl::StrFormat("the field \"%s\" is %s, not a text", field.name, field.kind);
    }
    return absl::StrFormat(
        "neither a chat in \"messages\" nor \"%s\" with \"%s\"; the object has: %s. Name fields as "
        "prompt_field and answer_field",
        fields_[1].name, fields_[1 + num_prompt_fields_].name, keys_.empty() ? "nothing" : keys_);
  }

  std::vector<JsonField> fields_;  // messages, those of the prompt, those of the response
  size_t num_prompt_fields_;
  std::string answer_after_, keys_;
  JsonDocument document_;
};

// Why nothing can be learned from a chat; "" if something can.
std::string Obstacle(const std::vector<Message>& messages, LearnedPart learned) {
  if (messages.empty()) return "the chat has no message";
  const auto is_answer = [](const Message& message) { return message.role == Role::kAssistant; };
  if (std::none_of(messages.begin(), messages.end(), is_answer)) {
    return learned == LearnedPart::kAll ? "" : "the assistant says nothing in this chat: there is nothing to learn";
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& content = messages[i].content;
    if (is_answer(messages[i]) && absl::StripAsciiWhitespace(content).empty()) {
      return absl::StrFormat("the answer (message %d) is empty: there is nothing to learn", i);
    }
  }
  if (learned == LearnedPart::kLast && !is_answer(messages.back())) {
    return "the chat does not end with an answer, which sft.loss: last learns";
  }
  return "";
}

}  // namespace

absl::Status SampleReader::TooLong(const std::string& place, int64_t tokens) {
  if (config_.long_prompts == "drop") {
    ++counts_.long_documents;
    return absl::OkStatus();
  }
  return Broken(place, absl::StrFormat("the sample has %d tokens, more than the %d that a row of data.sequence_length, "
                                       "%d, can learn; raise that, or drop longer ones with data.long_prompts: drop",
                                       tokens, config_.sequence_length + 1, config_.sequence_length));
}

absl::Status SampleReader::Add(std::vector<Message> messages, const std::string& place) {
  const bool has_system = !messages.empty() && messages[0].role == Role::kSystem;
  if (!config_.system.empty() && !has_system) messages.insert(messages.begin(), {Role::kSystem, config_.system});
  if (const std::string why = Obstacle(messages, learned_); !why.empty()) return Broken(place, why);
  const std::vector<ChatPart> parts = chat_template_.RenderParts(messages);
  const int64_t begin = static_cast<int64_t>(samples_.tokens.size());
  std::string asked;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool is_answer = parts[i].speaker == ChatPart::Speaker::kAssistant;
    // The final answer is the last part that is one: what may follow is a line feed of the format.
    const bool is_last = is_answer && i + 2 >= parts.size();
    const bool learned = learned_ == LearnedPart::kAll || (learned_ == LearnedPart::kLast ? is_last : is_answer);
    if (!is_answer) asked += parts[i].text;
    ids_.clear();
    if (i == 0) {
      encoder_->Encode(parts[i].text, Parse::kSpecial, ids_);
    } else {
      encoder_->EncodeRest(parts[i].text, Parse::kSpecial, ids_);
    }
    samples_.tokens.insert(samples_.tokens.end(), ids_.begin(), ids_.end());
    samples_.learned.resize(samples_.tokens.size(), learned ? 1 : 0);
  }
  const int64_t tokens = static_cast<int64_t>(samples_.tokens.size()) - begin;
  if (tokens < 2 || tokens > config_.sequence_length + 1) {
    samples_.tokens.resize(static_cast<size_t>(begin));
    samples_.learned.resize(static_cast<size_t>(begin));
    return tokens < 2 ? Broken(place, "one token alone is nothing to learn from") : TooLong(place, tokens);
  }
  samples_.ends.push_back(begin + tokens);
  prompts_.push_back({TextHash(asked), place});
  ++counts_.documents;
  for (const Message& message : messages) counts_.bytes += static_cast<int64_t>(message.content.size());
  return absl::OkStatus();
}

absl::Status SampleReader::ReadFile(const core::SourceConfig& source, const std::string& key) {
  LineForm form(source);
  const LoadOptions quiet{.should_stop = options_.should_stop};  // how much is left is not known
  return ForEachLine(source.path, key + ".path", [&](std::string_view line, const core::JsonSource& place) {
    RETURN_IF_ERROR(Report(quiet, {.source = source.path}));
    std::vector<Message> messages;
    RETURN_IF_ERROR(form.Read(line, place, messages));
    return Add(std::move(messages), Place(place));
  });
}

absl::Status SampleReader::ReadTask(const TaskDocuments& documents) {
  LoadProgress progress{
      .phase = LoadProgress::Phase::kTokenizing, .source = documents.name(), .bytes_total = documents.count()};
  for (int64_t i = 0; i < documents.count(); ++i) {
    progress.bytes_done = i;
    RETURN_IF_ERROR(Report(options_, progress));
    RETURN_IF_ERROR(Add(documents.At(i), absl::StrFormat("%s/%d", documents.name(), i)));
  }
  return absl::OkStatus();
}

}  // namespace conclave::data
