// SPDX-License-Identifier: Apache-2.0
#include "data/tiktoken_file.h"

#include <charconv>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/byte_alphabet.h"
#include "data/known_vocabularies.h"

namespace conclave::data {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 22;

using TokenIds = absl::flat_hash_map<std::string_view, int32_t>;

// "dGhl 1820" -> "the", 1820. False if it is none.
bool ParseLine(std::string_view line, std::string& token, int64_t& rank) {
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos || blank == 0) return false;
  const char* const end = line.data() + line.size();
  const auto [rest, error] = std::from_chars(line.data() + blank + 1, end, rank);
  if (error != std::errc() || rest != end || rank < 0 || rank >= kMaxTokens) return false;
  return absl::Base64Unescape(absl::string_view(line.data(), blank), &token) && !token.empty();
}

std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

TokenIds IdsOf(const std::vector<std::string>& tokens) {
  TokenIds ids;
  ids.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) ids.emplace(tokens[id], static_cast<int32_t>(id));
  }
  return ids;
}

bool HasEveryByte(const TokenIds& ids) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (!ids.contains(std::string_view(&c, 1))) return false;
  }
  return true;
}

// All ways in which two tokens make a third.
void AddAllMerges(const TokenIds& ids, BpeDescription& out) {
  for (size_t id = 0; id < out.tokens.size(); ++id) {
    const std::string_view token = out.tokens[id];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      out.merges.push_back({left->second, right->second, static_cast<int32_t>(id)});
    }
  }
  out.rank_is_result = true;
  out.ignore_merges = true;
}

// The one merge that made each token in training: it joins the two pieces that the merges before it leave.
void RecoverMerges(const TokenIds& ids, BpeDescription& out) {
  std::vector<std::string_view> parts;
  for (size_t id = 0; id < out.tokens.size(); ++id) {
    const std::string_view token = out.tokens[id];
    parts.clear();
    for (size_t i = 0; i < token.size(); ++i) parts.push_back(token.substr(i, 1));
    while (parts.size() > 2) {
      size_t best = 0;
      auto best_rank = static_cast<int32_t>(id);
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto joined = ids.find({parts[i].data(), parts[i].size() + parts[i + 1].size()});
        if (joined == ids.end() || joined->second >= best_rank) continue;
        best = i;
        best_rank = joined->second;
      }
      if (best_rank == static_cast<int32_t>(id)) break;
      parts[best] = {parts[best].data(), parts[best].size() + parts[best + 1].size()};
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    if (parts.size() == 2) out.merges.push_back({ids.at(parts[0]), ids.at(parts[1]), static_cast<int32_t>(id)});
  }
}

// Turns alphabet text into bytes; what is not alphabet is a plain token.
void DecodeAlphabet(BpeDescription& out) {
  for (size_t id = 0; id < out.tokens.size(); ++id) {
    if (std::optional<std::string> bytes = FromByteAlphabet(out.tokens[id])) {
      out.tokens[id] = *std::move(bytes);
    } else {
      out.plain_tokens.emplace_back(static_cast<int32_t>(id), std::exchange(out.tokens[id], ""));
    }
  }
}

absl::StatusOr<std::vector<std::string>> ReadTokens(std::string_view text, const std::string& name,
                                                    int64_t& num_lines) {
  std::vector<std::string> tokens;
  std::string token;
  for (int64_t line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = TakeLine(text);
    if (line.empty()) continue;
    int64_t rank = 0;
    if (!ParseLine(line, token, rank)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s:%d: not a token in base64, a blank, and its rank", name, line_number));
    }
    if (rank >= static_cast<int64_t>(tokens.size())) tokens.resize(rank + 1);
    if (!tokens[rank].empty()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s:%d: rank %d is given twice", name, line_number, rank));
    }
    tokens[rank] = token;
    ++num_lines;
  }
  return tokens;
}

}  // namespace

bool IsTiktoken(std::string_view text) {
  std::string token;
  int64_t rank = 0;
  return ParseLine(TakeLine(text), token, rank);
}

absl::StatusOr<BpeDescription> ParseTiktoken(std::string_view text, const std::string& name) {
  BpeDescription out;
  int64_t num_lines = 0;
  ASSIGN_OR_RETURN(out.tokens, ReadTokens(text, name, num_lines));
  TokenIds ids = IdsOf(out.tokens);
  const TiktokenForm form = HasEveryByte(ids) ? TiktokenForm::kBytes : TiktokenForm::kByteAlphabet;
  if (form == TiktokenForm::kByteAlphabet) {
    DecodeAlphabet(out);
    ids = IdsOf(out.tokens);
  }
  if (!HasEveryByte(ids) || static_cast<int64_t>(ids.size() + out.plain_tokens.size()) != num_lines) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: not a whole vocabulary: a byte has no token, or a token is listed twice", name));
  }
  const KnownVocabulary* const known = FindKnownVocabulary(num_lines, form);
  if (known == nullptr) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: no vocabulary of %d tokens is known, so how it cuts text is not; give its tokenizer.json instead", name,
        num_lines));
  }
  if (form == TiktokenForm::kBytes) {
    AddAllMerges(ids, out);
  } else {
    RecoverMerges(ids, out);
  }
  out.splits = *FindSplitRules(known->family);
  out.added_tokens = known->added_tokens;
  return out;
}

}  // namespace conclave::data
