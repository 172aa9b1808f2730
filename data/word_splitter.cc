// SPDX-License-Identifier: Apache-2.0
// PCRE2 with its just-in-time compiler. Patterns come from foreign files, so a match has limits; a piece on which one
// is exceeded stays whole from there on.
#include "data/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "data/pattern_syntax.h"

namespace conclave::data {
namespace {

constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kStackBytes = 32 << 10, kMaxStackBytes = 1 << 20;

struct FreePcre2 {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

struct CompiledRule {
  std::unique_ptr<pcre2_code, FreePcre2> code;
  SplitRule::Behavior behavior;
  bool invert;
};

absl::StatusOr<CompiledRule> CompileRule(const SplitRule& rule) {
  ASSIGN_OR_RETURN(const std::string pattern, ToPcre2(rule.regex));
  int error = 0;
  PCRE2_SIZE where = 0;
  CompiledRule compiled{nullptr, rule.behavior, rule.invert};
  compiled.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where, nullptr));
  if (!compiled.code) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(absl::StrFormat("the pattern %s is not valid near its byte %d: %s", rule.regex,
                                                      where, reinterpret_cast<const char*>(message)));
  }
  // Without the compiler (a pattern it cannot take, a system that forbids it) matching is slower, not different.
  pcre2_jit_compile(compiled.code.get(), PCRE2_JIT_COMPLETE);
  return compiled;
}

size_t CharacterLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Collects the pieces of one text as a behaviour joins matches and what lies between them. Pieces that follow each
// other are views of one text, so joining is widening.
class PieceCollector {
 public:
  PieceCollector(const CompiledRule& rule, std::vector<std::string_view>& pieces)
      : behavior_(rule.behavior), invert_(rule.invert), first_(pieces.size()), pieces_(pieces) {}

  void Add(std::string_view piece, bool is_match) {
    is_match ^= invert_;
    const bool follows = pieces_.size() > first_;
    bool join = false;
    switch (behavior_) {
      case SplitRule::Behavior::kIsolated:
        break;
      case SplitRule::Behavior::kRemoved:
        if (is_match) return;
        break;
      case SplitRule::Behavior::kMergedWithPrevious:
        join = is_match && !previous_is_match_ && follows;
        break;
      case SplitRule::Behavior::kMergedWithNext:
        join = previous_is_match_ && !is_match && follows;
        break;
      case SplitRule::Behavior::kContiguous:
        join = is_match == previous_is_match_ && follows;
        break;
    }
    previous_is_match_ = is_match;
    if (join) {
      pieces_.back() = {pieces_.back().data(), pieces_.back().size() + piece.size()};
    } else if (!piece.empty()) {
      pieces_.push_back(piece);
    }
  }

 private:
  const SplitRule::Behavior behavior_;
  const bool invert_;
  const size_t first_;
  std::vector<std::string_view>& pieces_;
  bool previous_is_match_ = false;
};

}  // namespace

struct WordRules::State {
  std::vector<CompiledRule> rules;
};

WordRules::WordRules(std::unique_ptr<State> state) : state_(std::move(state)) {}
WordRules::WordRules(WordRules&&) noexcept = default;
WordRules& WordRules::operator=(WordRules&&) noexcept = default;
WordRules::~WordRules() = default;

absl::StatusOr<WordRules> WordRules::Compile(std::span<const SplitRule> rules) {
  auto state = std::make_unique<State>();
  for (const SplitRule& rule : rules) {
    ASSIGN_OR_RETURN(CompiledRule compiled, CompileRule(rule));
    state->rules.push_back(std::move(compiled));
  }
  return WordRules(std::move(state));
}

struct WordSplitter::State {
  const std::vector<CompiledRule>& rules;
  std::unique_ptr<pcre2_match_data, FreePcre2> match;
  std::unique_ptr<pcre2_match_context, FreePcre2> context;
  std::unique_ptr<pcre2_jit_stack, FreePcre2> stack;
  std::vector<std::string_view> pieces, next_pieces;

  void Apply(const CompiledRule& rule, std::string_view text, std::vector<std::string_view>& out);
};

WordSplitter::WordSplitter(const WordRules& rules) : state_(new State{rules.state_->rules, {}, {}, {}, {}, {}}) {
  state_->match.reset(pcre2_match_data_create(1, nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->stack.reset(pcre2_jit_stack_create(kStackBytes, kMaxStackBytes, nullptr));
  CHECK(state_->match && state_->context && state_->stack);
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
  pcre2_set_match_limit(state_->context.get(), kMatchLimit);
}
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter::~WordSplitter() = default;

void WordSplitter::State::Apply(const CompiledRule& rule, std::string_view text, std::vector<std::string_view>& out) {
  PieceCollector collector(rule, out);
  const PCRE2_SIZE* const ends = pcre2_get_ovector_pointer(match.get());
  size_t done = 0;
  for (size_t from = 0; from < text.size();) {
    const int found = pcre2_match(rule.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                  PCRE2_NO_UTF_CHECK, match.get(), context.get());
    if (found < 0) break;  // none, or a limit
    const size_t begin = ends[0], end = ends[1];
    if (begin > done) collector.Add(text.substr(done, begin - done), false);
    collector.Add(text.substr(begin, end - begin), true);
    done = end;
    from = end > begin || end == text.size() ? end : end + CharacterLength(text[end]);
  }
  if (done < text.size()) collector.Add(text.substr(done), false);
}

void WordSplitter::Split(std::string_view text, std::vector<std::string_view>& words) {
  if (text.empty()) return;
  const std::vector<CompiledRule>& rules = state_->rules;
  if (rules.empty()) return words.push_back(text);
  state_->pieces.assign(1, text);
  for (size_t r = 0; r < rules.size(); ++r) {
    const bool last = r + 1 == rules.size();
    std::vector<std::string_view>& out = last ? words : state_->next_pieces;
    if (!last) out.clear();
    for (const std::string_view piece : state_->pieces) state_->Apply(rules[r], piece, out);
    if (!last) state_->pieces.swap(state_->next_pieces);
  }
}

}  // namespace conclave::data
