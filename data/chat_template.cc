// SPDX-License-Identifier: Apache-2.0
// One function per format. Tests hold texts that transformers gave for the published Jinja texts.
#include "data/chat_template.h"

#include <array>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/unicode.h"

namespace conclave::data {
namespace {

// DeepSeek writes U+FF5C for bars and U+2581 for blanks.
constexpr std::string_view kDeepSeekBegin =
    "<\xEF\xBD\x9C"
    "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>";
constexpr std::string_view kDeepSeekEnd =
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>";
constexpr std::string_view kDeepSeekUser = "<\xEF\xBD\x9CUser\xEF\xBD\x9C>";
constexpr std::string_view kDeepSeekAssistant =
    "<\xEF\xBD\x9C"
    "Assistant\xEF\xBD\x9C>";
constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
constexpr std::string_view kBeginOfText = "<|begin_of_text|>", kTurnEnd = "<|eot_id|>";
constexpr std::string_view kHeaderBegin = "<|start_header_id|>", kHeaderEnd = "<|end_header_id|>";
constexpr std::string_view kBos = "<bos>", kEos = "<eos>", kUser = "<|User|>", kAssistant = "<|Assistant|>";
constexpr std::string_view kThink = "<think>", kThinkPrefill = "<think>\n";

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
  }
  return "";
}

std::string_view WithoutThinking(std::string_view answer) {
  constexpr std::string_view kEndThink = "</think>";
  const size_t end = answer.rfind(kEndThink);
  return end == std::string_view::npos ? answer : answer.substr(end + kEndThink.size());
}

std::string_view Trimmed(std::string_view text) {
  const size_t valid = ValidUtf8Length(text);
  text.remove_prefix(LeadingWhiteSpace(text.substr(0, valid)));
  if (ValidUtf8Length(text) == text.size()) text.remove_suffix(TrailingWhiteSpace(text));
  return text;
}

// The literal text between "<|im_start|>system\n" and "<|im_end|>" of a Jinja text, where \n are two characters; "" if
// every system message is an expression.
std::string DefaultSystem(std::string_view jinja) {
  constexpr std::string_view kBefore = "<|im_start|>system\\n";
  for (size_t at = jinja.find(kBefore); at != std::string_view::npos; at = jinja.find(kBefore, at + 1)) {
    const std::string_view rest = jinja.substr(at + kBefore.size());
    const std::string_view text = rest.substr(0, rest.find(kImEnd));
    if (!text.empty() && text.size() < rest.size() && text.find_first_of("'\"\\{") == std::string_view::npos) {
      return std::string(text);
    }
  }
  return "";
}

}  // namespace

struct ChatTemplate::Known {
  Format format;
  std::string_view name;
  std::array<std::string_view, 5> markers;  // the first one tells the format; "" at the end
  std::array<std::string_view, 2> foreign;  // parts of Jinja texts that render something else
};

// Of two formats with the same markers the one that is taken without a Jinja text comes first.
constinit const ChatTemplate::Known ChatTemplate::kKnown[] = {
    {Format::kDeepSeekV3,
     "deepseek_v3",
     {kDeepSeekUser, kDeepSeekAssistant, kDeepSeekBegin, kDeepSeekEnd},
     {"thinking"}},
    {Format::kDeepSeekR1,
     "deepseek_r1",
     {kDeepSeekUser, kDeepSeekAssistant, kDeepSeekBegin, kDeepSeekEnd, "<think>"},
     {"thinking"}},
    {Format::kChatMl, "chatml", {kImStart, kImEnd}, {"think>", "reasoning_content"}},
    {Format::kLlama3, "llama3", {kHeaderBegin, kHeaderEnd, kBeginOfText, kTurnEnd}, {"Cutting Knowledge Date"}},
    {Format::kBytes, "bytes", {kUser, kAssistant, kBos, kEos}, {}},
    {Format::kPlain, "plain", {}, {}}};

const ChatTemplate::Known& ChatTemplate::Find(Format format) {
  const Known* known = kKnown;
  while (known->format != format) ++known;
  return *known;
}

std::string_view ChatTemplate::name() const { return Find(format_).name; }

absl::StatusOr<ChatTemplate> ChatTemplate::Recognise(std::string_view jinja) {
  ChatTemplate chosen;
  int num_found = 0;
  for (const Known& known : kKnown) {
    if (known.markers[0].empty() || known.format == Format::kDeepSeekR1 || !Contains(jinja, known.markers[0])) continue;
    chosen.format_ = known.format;
    ++num_found;
  }
  bool foreign = num_found != 1;
  for (const std::string_view part : Find(chosen.format_).foreign) foreign |= !part.empty() && Contains(jinja, part);
  if (foreign) {
    return absl::UnimplementedError(
        "the chat template that comes with the tokenizer is not one that this program knows; choose one with "
        "chat_template: deepseek_v3, deepseek_r1, chatml, llama3, bytes or plain");
  }
  // Jinja texts write the line feed as two characters, seldom as itself.
  const std::string before = std::string(kDeepSeekAssistant) + "<think>";
  if (chosen.format_ == Format::kDeepSeekV3 && Contains(jinja, before)) chosen.format_ = Format::kDeepSeekR1;
  if (chosen.format_ == Format::kChatMl) chosen.default_system_ = DefaultSystem(jinja);
  return chosen;
}

ChatTemplate::Format ChatTemplate::FormatByMarkers(const Tokenizer& tokenizer) {
  for (const Known& known : kKnown) {
    ChatTemplate candidate;
    candidate.format_ = known.format;
    if (candidate.CheckMarkers(tokenizer).ok()) return known.format;
  }
  return Format::kPlain;
}

absl::Status ChatTemplate::CheckMarkers(const Tokenizer& tokenizer) const {
  const Known& known = Find(format_);
  for (const std::string_view marker : known.markers) {
    if (marker.empty()) break;
    std::vector<int32_t> ids;
    tokenizer.Encode(marker, Parse::kSpecial, ids);
    if (ids.size() == 1) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("chat_template: %s needs the token %s, which this tokenizer does not have; plain needs none",
                        known.name, marker));
  }
  return absl::OkStatus();
}

absl::StatusOr<ChatTemplate> ChatTemplate::Choose(std::string_view name, const Tokenizer& tokenizer) {
  const std::string jinja = tokenizer.ChatTemplateText();
  ChatTemplate chosen;
  if (name == "auto" && !jinja.empty()) {
    ASSIGN_OR_RETURN(chosen, Recognise(jinja));
  } else if (name == "auto") {
    chosen.format_ = FormatByMarkers(tokenizer);
  } else {
    std::string names;
    const Known* found = nullptr;
    for (const Known& known : kKnown) {
      if (known.name == name) found = &known;
      names.append(", ").append(known.name);
    }
    if (found == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrFormat("chat_template: \"%s\" is not known; there are auto%s", name, names));
    }
    chosen.format_ = found->format;
    if (chosen.format_ == Format::kChatMl) chosen.default_system_ = DefaultSystem(jinja);
  }
  RETURN_IF_ERROR(chosen.CheckMarkers(tokenizer));
  chosen.begin_ = tokenizer.TokenText(tokenizer.bos_id());
  chosen.end_ = tokenizer.TokenText(tokenizer.eos_id());
  return chosen;
}

std::string_view ChatTemplate::Prefill() const { return format_ == Format::kDeepSeekR1 ? kThinkPrefill : ""; }

std::vector<int32_t> ChatTemplate::Render(const Tokenizer& tokenizer, std::span<const Message> messages,
                                          GenerationPrompt prompt) const {
  std::vector<int32_t> ids;
  tokenizer.Encode(RenderText(messages, prompt), Parse::kSpecial, ids);
  return ids;
}

std::string ChatTemplate::RenderText(std::span<const Message> messages, GenerationPrompt prompt) const {
  std::string text;
  for (const ChatPart& part : RenderTurns(messages, LastThinking::kAsFormat)) text += part.text;
  if (prompt == GenerationPrompt::kNone) return text;
  switch (format_) {
    case Format::kDeepSeekV3:
    case Format::kDeepSeekR1:
      return text.append(kDeepSeekAssistant).append(Prefill());
    case Format::kChatMl:
      return text.append(kImStart).append("assistant\n");
    case Format::kLlama3:
      return text.append(kHeaderBegin).append("assistant").append(kHeaderEnd).append("\n\n");
    case Format::kBytes:
      return text.append(kAssistant);
    case Format::kPlain:
      return text.append("Assistant:\n");
  }
  return "";
}

// Joins what one speaker says.
class ChatTemplate::Parts {
 public:
  template <class... Texts>
  void Add(ChatPart::Speaker speaker, const Texts&... texts) {
    if (parts_.empty() || parts_.back().speaker != speaker) parts_.push_back({speaker, ""});
    (parts_.back().text.append(texts), ...);
  }
  template <class... Texts>
  void Header(const Texts&... texts) {
    Add(ChatPart::Speaker::kOthers, texts...);
  }
  template <class... Texts>
  void Turn(Role role, const Texts&... texts) {
    Add(role == Role::kAssistant ? ChatPart::Speaker::kAssistant : ChatPart::Speaker::kOthers, texts...);
  }
  std::vector<ChatPart> Take() { return std::move(parts_); }

 private:
  std::vector<ChatPart> parts_;
};

std::vector<ChatPart> ChatTemplate::RenderParts(std::span<const Message> messages) const {
  return RenderTurns(messages, LastThinking::kStays);
}

std::vector<ChatPart> ChatTemplate::RenderTurns(std::span<const Message> messages, LastThinking thinking) const {
  Parts parts;
  switch (format_) {
    case Format::kDeepSeekV3:
    case Format::kDeepSeekR1:
      RenderDeepSeek(messages, thinking, parts);
      break;
    case Format::kChatMl:
      RenderChatMl(messages, parts);
      break;
    case Format::kLlama3:
      RenderLlama3(messages, parts);
      break;
    case Format::kBytes:
      RenderBytes(messages, parts);
      break;
    case Format::kPlain:
      RenderPlain(messages, parts);
      break;
  }
  return parts.Take();
}

void ChatTemplate::RenderDeepSeek(std::span<const Message> messages, LastThinking thinking, Parts& parts) const {
  std::string system;
  for (const Message& message : messages) {
    if (message.role != Role::kSystem) continue;
    if (format_ == Format::kDeepSeekR1) system.clear();  // R1 takes the last one, V3 all
    system.append(system.empty() ? "" : "\n\n").append(message.content);
  }
  parts.Header(kDeepSeekBegin, system);
  for (const Message& message : messages) {
    if (message.role == Role::kUser) parts.Header(kDeepSeekUser, message.content);
    if (message.role != Role::kAssistant) continue;
    parts.Header(kDeepSeekAssistant);
    const bool stays = thinking == LastThinking::kStays && &message == &messages.back();
    std::string_view content = stays ? message.content : WithoutThinking(message.content);
    if (stays && !Prefill().empty() && content.starts_with(kThink)) {
      parts.Header(Prefill());
      content.remove_prefix(content.starts_with(Prefill()) ? Prefill().size() : kThink.size());
    }
    parts.Turn(message.role, content, kDeepSeekEnd);
  }
}

void ChatTemplate::RenderChatMl(std::span<const Message> messages, Parts& parts) const {
  const auto add = [&](Role role, std::string_view content) {
    parts.Header(kImStart, RoleName(role), "\n");
    parts.Turn(role, content, kImEnd);
    parts.Header("\n");
  };
  const bool has_system = !messages.empty() && messages[0].role == Role::kSystem;
  if (!has_system && !default_system_.empty()) add(Role::kSystem, default_system_);
  for (const Message& message : messages) add(message.role, message.content);
}

void ChatTemplate::RenderLlama3(std::span<const Message> messages, Parts& parts) const {
  parts.Header(kBeginOfText);
  for (const Message& message : messages) {
    parts.Header(kHeaderBegin, RoleName(message.role), kHeaderEnd, "\n\n");
    parts.Turn(message.role, Trimmed(message.content), kTurnEnd);
  }
}

void ChatTemplate::RenderBytes(std::span<const Message> messages, Parts& parts) const {
  parts.Header(kBos);
  for (const Message& message : messages) {
    if (message.role == Role::kUser) parts.Header(kUser);
    if (message.role == Role::kAssistant) parts.Header(kAssistant);
    parts.Turn(message.role, message.content, message.role == Role::kAssistant ? kEos : "");
  }
}

void ChatTemplate::RenderPlain(std::span<const Message> messages, Parts& parts) const {
  parts.Header(begin_);
  for (const Message& message : messages) {
    if (message.role == Role::kUser) parts.Header("User:\n");
    if (message.role == Role::kAssistant) parts.Header("Assistant:\n");
    parts.Turn(message.role, message.content, message.role == Role::kAssistant && !end_.empty() ? end_ : "\n\n");
  }
}

std::string ChatTemplateJinja() {
  return "{{ '<bos>' }}"
         "{% for message in messages %}"
         "{% if message['role'] == 'system' %}{{ message['content'] }}"
         "{% elif message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
         "{% elif message['role'] == 'assistant' %}{{ '<|Assistant|>' + message['content'] + '<eos>' }}"
         "{% else %}{{ raise_exception('unknown role: ' + message['role']) }}"
         "{% endif %}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}";
}

}  // namespace conclave::data
