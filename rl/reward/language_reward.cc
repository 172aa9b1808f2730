// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/language_reward.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/utf8.h"
#include "rl/reward/answer_extraction.h"
#include "rl/reward/response_reward.h"

namespace conclave::rl {
namespace {

enum Script : unsigned {
  kLatin = 1,
  kGreek = 2,
  kCyrillic = 4,
  kHebrew = 8,
  kArabic = 16,
  kDevanagari = 32,
  kThai = 64,
  kHangul = 128,
  kKana = 256,
  kHan = 512,
  kOther = 1024,
};

struct Range {
  char32_t first, last;
  Script script;
};
// Blocks of letters (Unicode 15), ascending. What lies between and above is other scripts, signs or nothing.
constexpr Range kRanges[] = {
    {'A', 'Z', kLatin},        {'a', 'z', kLatin},        {0xC0, 0xD6, kLatin},      {0xD8, 0xF6, kLatin},
    {0xF8, 0x24F, kLatin},     {0x370, 0x3FF, kGreek},    {0x400, 0x52F, kCyrillic}, {0x531, 0x588, kOther},
    {0x5D0, 0x5EA, kHebrew},   {0x620, 0x64A, kArabic},   {0x671, 0x6D3, kArabic},   {0x900, 0x963, kDevanagari},
    {0x980, 0xDFF, kOther},    {0xE01, 0xE30, kThai},     {0xE40, 0xE46, kThai},     {0xE80, 0x10FF, kOther},
    {0x1100, 0x11FF, kHangul}, {0x1200, 0x1DBF, kOther},  {0x1E00, 0x1EFF, kLatin},  {0x1F00, 0x1FFF, kGreek},
    {0x3041, 0x30FF, kKana},   {0x3105, 0x312F, kOther},  {0x3400, 0x4DBF, kHan},    {0x4E00, 0x9FFF, kHan},
    {0xA000, 0xABFF, kOther},  {0xAC00, 0xD7A3, kHangul}, {0xF900, 0xFAFF, kHan},    {0xFF66, 0xFF9D, kKana},
    {0x20000, 0x3134F, kHan},
};

constexpr std::pair<std::string_view, unsigned> kLanguages[] = {
    {"ar", kArabic}, {"cs", kLatin},    {"da", kLatin},       {"de", kLatin},    {"el", kGreek},      {"en", kLatin},
    {"es", kLatin},  {"fi", kLatin},    {"fr", kLatin},       {"he", kHebrew},   {"hi", kDevanagari}, {"hu", kLatin},
    {"id", kLatin},  {"it", kLatin},    {"ja", kKana | kHan}, {"ko", kHangul},   {"nl", kLatin},      {"no", kLatin},
    {"pl", kLatin},  {"pt", kLatin},    {"ro", kLatin},       {"ru", kCyrillic}, {"sv", kLatin},      {"th", kThai},
    {"tr", kLatin},  {"uk", kCyrillic}, {"vi", kLatin},       {"zh", kHan}};

// 0 if it is no letter.
unsigned ScriptOf(char32_t character) {
  const auto range = std::find_if(std::begin(kRanges), std::end(kRanges),
                                  [character](const Range& range) { return character <= range.last; });
  return range != std::end(kRanges) && character >= range->first ? static_cast<unsigned>(range->script) : 0;
}

// Length of the formula or command that `text` begins with: $...$, \(...\), \[...\], \command; 0 if there is none.
size_t MathLength(std::string_view text) {
  constexpr std::pair<std::string_view, std::string_view> kDelimiters[] = {
      {"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}};
  for (const auto& [open, close] : kDelimiters) {
    if (!text.starts_with(open)) continue;
    const size_t end = text.find(close, open.size());
    return end == std::string_view::npos ? open.size() : end + close.size();
  }
  if (text[0] != '\\') return 0;
  const std::string_view name = text.substr(1);
  return 1 + (std::find_if_not(name.begin(), name.end(), absl::ascii_isalpha) - name.begin());
}

double ShareOfScript(std::string_view text, unsigned scripts) {
  int64_t right = 0, letters = 0;
  while (!text.empty()) {
    const size_t math = MathLength(text);
    if (math > 0) {
      text.remove_prefix(math);
      continue;
    }
    const core::Utf8Front front = core::ClassifyFront(text);
    const unsigned script = front.kind == core::Utf8Front::kWhole ? ScriptOf(front.character) : 0;
    letters += script != 0;
    right += (script & scripts) != 0;
    text.remove_prefix(std::max<size_t>(front.length, 1));
  }
  return letters == 0 ? 1 : static_cast<double>(right) / static_cast<double>(letters);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> MakeLanguageReward(const std::string& language) {
  std::string known;
  for (const auto& [code, scripts] : kLanguages) {
    if (code == language) {
      return MakeResponseReward("language", [scripts = scripts](const Response& response) {
        return Score{.value = ShareOfScript(ExtractThoughts(response.text), scripts)};
      });
    }
    known += (known.empty() ? "" : ", ") + std::string(code);
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("language: %s is unknown; choose from %s", core::Quoted(language), known));
}

}  // namespace conclave::rl
