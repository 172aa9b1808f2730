// SPDX-License-Identifier: Apache-2.0
// Text as soon as it is whole. What is broken becomes one U+FFFD per maximal subpart, as Unicode 3.9 recommends and
// Python and Rust do, so the pieces together equal decoding all bytes at once.
#include <string_view>

#include "core/base/utf8.h"
#include "data/tokenizer.h"

namespace conclave::data {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

std::string StreamDecoder::Push(int32_t id) {
  if (special_ == SpecialTokens::kDrop && tokenizer_.IsSpecial(id)) return "";
  pending_ += tokenizer_.TokenText(id);
  std::string text;
  size_t begin = 0;
  while (begin < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(begin);
    const core::Utf8Front front = core::ClassifyFront(rest);
    if (front.kind == core::Utf8Front::kUnfinished) break;
    text += front.kind == core::Utf8Front::kWhole ? rest.substr(0, front.length) : kReplacement;
    begin += front.length;
  }
  pending_.erase(0, begin);
  return text;
}

std::string StreamDecoder::Finish() {
  // Whatever still waits is the start of one character.
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return text;
}

}  // namespace conclave::data
