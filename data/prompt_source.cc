// SPDX-License-Identifier: Apache-2.0
#include "data/prompt_source.h"

#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "data/json_fields.h"

namespace conclave::data {
namespace {

constexpr int64_t kProblemsChecked = 1000;  // of a task, when it is opened
constexpr int64_t kMaxRedraws = 1 << 16;

constexpr std::string_view kGsm8kMark = "####";

// Which fields of a line are the problem and its answer, and where in it the answer stands.
class RecordForm {
 public:
  explicit RecordForm(const core::SourceConfig& source) : answer_after_(source.answer_after) {
    fields_.push_back({.name = source.answer_field.empty() ? "answer" : source.answer_field});
    if (!source.prompt_field.empty()) {
      fields_.push_back({.name = source.prompt_field});
      return;
    }
    for (const std::string_view name : kPromptFields) fields_.push_back({.name = std::string(name)});
  }

  // Why there is none, or "".
  absl::Status Read(std::string_view line, const core::JsonSource& source, std::string& text, std::string& answer) {
    RETURN_IF_ERROR(ReadFields(line, source, fields_, keys_));
    const JsonField* prompt = FirstGiven(std::span(fields_).subspan(1));
    const std::string problem = prompt == nullptr ? Missing() : Problem(*prompt, text, answer);
    if (problem.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s:%d: %s", source.name, source.first_line, problem));
  }

 private:
  static std::string WrongKind(const JsonField& field) {
    return absl::StrFormat("the field \"%s\" is %s, not a text", field.name, field.kind);
  }

  std::string Missing() const {
    std::string names;
    for (size_t i = 1; i < fields_.size(); ++i) {
      if (!fields_[i].kind.empty()) return WrongKind(fields_[i]);
      names += (names.empty() ? "\"" : ", \"") + fields_[i].name + "\"";
    }
    return absl::StrFormat("no field %s; the object has: %s. Name it as prompt_field", names,
                           keys_.empty() ? "nothing" : keys_);
  }

  std::string Problem(const JsonField& prompt, std::string& text, std::string& answer) const {
    if (absl::StripAsciiWhitespace(*prompt.value).empty()) {
      return absl::StrFormat("the field \"%s\" is empty", prompt.name);
    }
    if (!fields_[0].kind.empty()) return WrongKind(fields_[0]);
    if (!fields_[0].value) {
      return absl::StrFormat("no field \"%s\" to compare a response with; the object has: %s. Name it as answer_field",
                             fields_[0].name, keys_);
    }
    std::string_view value = *fields_[0].value;
    const bool is_gsm8k = prompt.name == "question" && value.find(kGsm8kMark) != std::string_view::npos;
    const std::string_view mark = answer_after_.empty() && is_gsm8k ? kGsm8kMark : std::string_view(answer_after_);
    if (!mark.empty()) {
      const size_t at = value.rfind(mark);
      if (at == std::string_view::npos) {
        return absl::StrFormat("the field \"%s\" has no \"%s\" before an answer", fields_[0].name, mark);
      }
      value.remove_prefix(at + mark.size());
    }
    const absl::string_view stripped = absl::StripAsciiWhitespace(absl::string_view(value.data(), value.size()));
    if (stripped.empty()) return "the answer is empty: there is nothing to compare a response with";
    text = *prompt.value;
    answer = std::string(stripped);
    return "";
  }

  std::string answer_after_, keys_;
  std::vector<JsonField> fields_;  // that of the answer, then those of the problem
};

std::vector<Message> Conversation(const std::string& system, const std::string& text) {
  std::vector<Message> messages;
  if (!system.empty()) messages.push_back({Role::kSystem, system});
  messages.push_back({Role::kUser, text});
  return messages;
}

absl::Status CheckKeys(const core::SourceConfig& source, const std::string& key) {
  if (!source.synthetic.empty()) {
    return absl::InvalidArgumentError(key + ".synthetic: random tokens have no answers; give path or task");
  }
  if (source.task.empty() == source.path.empty()) {
    return absl::InvalidArgumentError(key + ": give either path or task");
  }
  if (source.task.empty() && source.count > 0) {
    return absl::InvalidArgumentError(key + ".count: is for tasks; all problems of a file are read");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PromptSource> PromptSource::Open(const core::SourceConfig& source, const std::string& key,
                                                const PromptContext& context, uint64_t seed) {
  RETURN_IF_ERROR(CheckKeys(source, key));
  ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Choose(context.config.chat_template, context.tokenizer));
  PromptSource result(context, std::move(chat_template));
  if (source.task.empty()) {
    RETURN_IF_ERROR(result.OpenFile(source, key));
  } else {
    RETURN_IF_ERROR(result.OpenTask(source, key, context, seed));
  }
  return result;
}

absl::Status PromptSource::TooLong(const std::string& place, size_t tokens) const {
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: the prompt has %d tokens, more than data.max_prompt_tokens, %d; raise that, or drop longer ones with "
      "data.long_prompts: drop",
      place, tokens, config_.max_prompt_tokens));
}

absl::Status PromptSource::OpenFile(const core::SourceConfig& source, const std::string& key) {
  name_ = source.path;
  RecordForm form(source);
  const std::unique_ptr<Encoder> encoder = tokenizer_.NewEncoder();
  std::vector<int32_t> ids;
  const auto read = [&](std::string_view line, const core::JsonSource& place) -> absl::Status {
    Record record{.place = absl::StrFormat("%s:%d", place.name, place.first_line)};
    RETURN_IF_ERROR(form.Read(line, place, record.text, record.answer));
    ids.clear();
    encoder->Encode(chat_template_.RenderText(Conversation(config_.system, record.text), GenerationPrompt::kAdd),
                    Parse::kSpecial, ids);
    const bool fits = static_cast<int64_t>(ids.size()) <= config_.max_prompt_tokens;
    if (!fits && config_.long_prompts != "drop") return TooLong(record.place, ids.size());
    num_dropped_ += !fits;
    if (fits) records_.push_back(std::move(record));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachLine(source.path, key + ".path", read));
  if (!records_.empty()) {
    size_ = static_cast<int64_t>(records_.size());
    return absl::OkStatus();
  }
  if (num_dropped_ == 0) return absl::InvalidArgumentError(key + ".path: " + source.path + ": no problem in it");
  return absl::InvalidArgumentError(
      absl::StrFormat("%s.path: %s: all %d prompts are longer than data.max_prompt_tokens, %d; raise that", key,
                      source.path, num_dropped_, config_.max_prompt_tokens));
}

absl::Status PromptSource::OpenTask(const core::SourceConfig& source, const std::string& key,
                                    const PromptContext& context, uint64_t seed) {
  ASSIGN_OR_RETURN(task_, TaskSplit::Open(source, key, context.tasks, seed));
  name_ = source.task + "/" + source.split;
  if (source.count > 0) size_ = source.count;
  int64_t num_checked = 0;
  for (int64_t i = 0; i < std::min(kProblemsChecked, size_.value_or(kProblemsChecked)); ++i, ++num_checked) {
    const std::string text = task_->At(static_cast<uint64_t>(i)).prompt;
    const size_t tokens = Render(text).size();
    if (static_cast<int64_t>(tokens) <= config_.max_prompt_tokens) continue;
    if (config_.long_prompts != "drop") return TooLong(absl::StrFormat("%s: \"%s\"", key, text), tokens);
    ++num_dropped_;
  }
  if (num_dropped_ < num_checked) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s.task: the first %d prompts of %s are longer than data.max_prompt_tokens, %d; raise that", key,
                      num_checked, name_, config_.max_prompt_tokens));
}

std::vector<int32_t> PromptSource::Render(const std::string& text) const {
  return chat_template_.Render(tokenizer_, Conversation(config_.system, text), GenerationPrompt::kAdd);
}

Prompt PromptSource::At(int64_t index) const {
  if (task_) return FromTask(index);
  const Record& record = records_[static_cast<size_t>(index)];
  return {
      .id = record.place, .source = name_, .text = record.text, .answer = record.answer, .ids = Render(record.text)};
}

// A problem that is too long is replaced by another one, so that the draws of others stay what they are.
Prompt PromptSource::FromTask(int64_t index) const {
  for (int64_t redraw = 0; redraw < kMaxRedraws; ++redraw) {
    Problem problem = task_->At(static_cast<uint64_t>(index) + (static_cast<uint64_t>(redraw) << 40));
    std::vector<int32_t> ids = Render(problem.prompt);
    if (static_cast<int64_t>(ids.size()) > config_.max_prompt_tokens) continue;
    return {.id = absl::StrFormat("%s/%d", name_, index),
            .source = name_,
            .text = std::move(problem.prompt),
            .answer = std::move(problem.answer),
            .ids = std::move(ids)};
  }
  core::Fatal(absl::StrFormat("%s: no prompt of %d tokens or less, though there were some when it was opened", name_,
                              config_.max_prompt_tokens));
}

}  // namespace conclave::data
