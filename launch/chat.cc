// SPDX-License-Identifier: Apache-2.0
#include "launch/chat.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/base/terminal.h"
#include "core/config/nearest.h"
#include "launch/signals.h"

namespace conclave::launch {
namespace {

constexpr char kHelp[] =
    "/reset        forget the conversation, keep the system message\n"
    "/system TEXT  set the system message; without TEXT remove it\n"
    "/exit         leave (also Ctrl-D)\n"
    "/help         this list\n"
    "Ctrl-C stops an answer. A message that begins with a slash: put a blank before it.\n";

void Show(std::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

// What the program says itself.
void Notice(std::string_view text) {
  fputs((core::Styled(STDERR_FILENO, core::Style::kDim, text) + "\n").c_str(), stderr);
}

// stdin line by line, with Ctrl-C as an answer of its own.
class Lines {
 public:
  enum class Read { kLine, kInterrupted, kEnd };

  // Without a signal, Ctrl-C does what it always does.
  explicit Lines(const InterruptSignal* interrupt) : interrupt_(interrupt) {}

  Read Next(std::string& line) {
    for (;;) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) return Take(end, line);
      if (interrupt_ != nullptr) interrupt_->AwaitInput();
      if (InterruptSignal::Take()) {
        buffer_.clear();
        return Read::kInterrupted;
      }
      char bytes[4096];
      const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof(bytes));
      if (count > 0) {
        buffer_.append(bytes, static_cast<size_t>(count));
      } else if (count == 0 || errno != EINTR) {
        return buffer_.empty() ? Read::kEnd : Take(buffer_.size(), line);  // a last line without its end
      }
    }
  }

 private:
  Read Take(size_t end, std::string& line) {
    line = buffer_.substr(0, end);
    if (line.ends_with('\r')) line.pop_back();
    buffer_.erase(0, end + 1);
    return Read::kLine;
  }

  const InterruptSignal* interrupt_;
  std::string buffer_;
};

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t") == std::string_view::npos; }

}  // namespace

Chat::Chat(const data::Tokenizer& tokenizer, data::ChatTemplate chat_template, Sampling& sampling, std::string system,
           int64_t max_tokens)
    : tokenizer_(tokenizer),
      sampling_(sampling),
      conversation_(tokenizer, std::move(chat_template), std::move(system)),
      max_tokens_(max_tokens),
      terminal_(core::IsTerminal(STDIN_FILENO)) {}

absl::StatusOr<ExitCode> Chat::Run() {
  std::optional<InterruptSignal> interrupt;  // in a pipeline Ctrl-C means the whole pipeline
  if (terminal_) {
    interrupt.emplace();
    Notice(absl::StrFormat("context of %d tokens; /help lists commands, Ctrl-D leaves", sampling_.capacity()));
  }
  Lines lines(interrupt ? &*interrupt : nullptr);
  std::string line;
  for (;;) {
    if (terminal_) fputs(core::Styled(STDERR_FILENO, core::Style::kBold, "> ").c_str(), stderr);
    const Lines::Read read = lines.Next(line);
    if (read == Lines::Read::kEnd) break;
    if (read == Lines::Read::kInterrupted) {
      Notice("\nCtrl-D or /exit leaves");
      continue;
    }
    if (IsBlank(line)) continue;
    if (terminal_ && line.starts_with('/')) {
      if (RunCommand(line) == Next::kLeave) return ExitCode::kDone;
      continue;
    }
    const absl::Status answered = Answer(line);
    if (!answered.ok() && !terminal_) return answered;
    if (!answered.ok()) fputs((std::string(answered.message()) + "\n").c_str(), stderr);
  }
  if (terminal_) fputs("\n", stderr);
  return ExitCode::kDone;
}

Chat::Next Chat::RunCommand(const std::string& line) {
  static const std::vector<std::string> kCommands = {"/reset", "/system", "/exit", "/help"};
  const size_t blank = std::min(line.find(' '), line.size());
  const std::string command = line.substr(0, blank);
  if (command == "/exit") return Next::kLeave;
  if (command == "/help") {
    fputs(kHelp, stderr);
  } else if (command == "/reset") {
    conversation_.Reset();
    Notice("the conversation begins anew");
  } else if (command == "/system") {
    conversation_.SetSystem(line.substr(std::min(blank + 1, line.size())));
    Notice(conversation_.system().empty() ? "no system message" : "system message: " + conversation_.system());
  } else {
    const std::string_view nearest = core::Nearest(command, kCommands);
    Notice(absl::StrFormat("unknown command %s%s; /help lists commands", command,
                           nearest.empty() ? "" : absl::StrFormat(", did you mean %s?", nearest)));
  }
  return Next::kGoOn;
}

absl::Status Chat::Answer(const std::string& message) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, PromptFor(message));
  const int64_t room = sampling_.capacity() - static_cast<int64_t>(prompt.size());
  const int64_t most = std::min(max_tokens_, room);
  data::StreamDecoder text(tokenizer_);
  std::vector<int32_t> tokens;
  InterruptSignal::Take();                                             // what was pressed before has had its effect
  const std::string prefill(conversation_.chat_template().Prefill());  // the prompt has the answer's first words
  Show(prefill);
  const auto take = [&](int64_t, int32_t token) {
    if (InterruptSignal::Take()) return false;
    tokens.push_back(token);
    Show(text.Push(token));
    return true;
  };
  const Ending ending = sampling_.Generate(prompt, most, take).front();
  Show(text.Finish() + "\n");
  conversation_.Add(data::Role::kAssistant, prefill + data::Decode(tokenizer_, tokens));
  if (ending == Ending::kStopped) Notice("stopped");
  if (ending == Ending::kMaxTokens) {
    Notice(absl::StrFormat("cut after %d tokens (%s)", most, most < max_tokens_ ? "--context" : "--max-tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Chat::PromptFor(const std::string& message) {
  const int64_t capacity = sampling_.capacity();
  // An answer gets its room even if that costs old turns, but not more than half of the context.
  const int64_t longest = capacity - std::clamp<int64_t>(max_tokens_, 1, std::max<int64_t>(capacity / 2, 1));
  Conversation alone(tokenizer_, conversation_.chat_template(), conversation_.system());
  alone.Add(data::Role::kUser, message);
  const int64_t least = static_cast<int64_t>(alone.Render().size());
  if (least >= capacity) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the message has %d tokens with what stands around it, the context holds %d: give a shorter one", least,
        capacity));
  }
  conversation_.Add(data::Role::kUser, message);
  std::vector<int32_t> prompt = conversation_.Render();
  int64_t dropped = 0;
  while (static_cast<int64_t>(prompt.size()) > longest && conversation_.DropOldestTurn()) {
    ++dropped;
    prompt = conversation_.Render();
  }
  if (dropped > 0) {
    Notice(
        absl::StrFormat("the context of %d tokens is full: forgot the oldest %s", capacity,
                        dropped == 1 ? "message and its answer" : absl::StrFormat("%d messages and answers", dropped)));
  }
  return prompt;
}

}  // namespace conclave::launch
