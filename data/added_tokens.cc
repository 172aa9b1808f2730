// SPDX-License-Identifier: Apache-2.0
#include "data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "data/unicode.h"

namespace conclave::data {

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  first_nodes_.fill(-1);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (!tokens_[i].content.empty()) Insert(tokens_[i].content, static_cast<int32_t>(i));
  }
}

int32_t AddedTokenMatcher::Child(int32_t node, char byte) const {
  for (int32_t child = nodes_[node].first_child; child >= 0; child = nodes_[child].next_sibling) {
    if (nodes_[child].byte == byte) return child;
  }
  return -1;
}

void AddedTokenMatcher::Insert(std::string_view content, int32_t token) {
  int32_t node = 0;
  for (const char byte : content) {
    int32_t child = Child(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.next_sibling = nodes_[node].first_child, .byte = byte});
      nodes_[node].first_child = child;
      if (node == 0) first_nodes_[static_cast<unsigned char>(byte)] = child;
    }
    node = child;
  }
  if (nodes_[node].token < 0) nodes_[node].token = token;
}

AddedTokenMatcher::Match AddedTokenMatcher::LongestAt(std::string_view text) const {
  Match match;
  int32_t node = first_nodes_[static_cast<unsigned char>(text[0])];
  for (size_t length = 1; node >= 0; ++length) {
    if (nodes_[node].token >= 0) match = {nodes_[node].token, length};
    if (length == text.size()) break;
    node = Child(node, text[length]);
  }
  return match;
}

void AddedTokenMatcher::Split(std::string_view text, Parse parse, std::vector<Piece>& pieces) const {
  size_t done = 0;  // everything before it is in `pieces`
  for (size_t at = 0; at < text.size();) {
    const Match match = LongestAt(text.substr(at));
    if (match.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[match.token];
    size_t begin = at, end = at + match.length;
    at = end;
    const bool touched = token.single_word &&
                         (EndsWithWordCharacter(text.substr(0, begin)) || StartsWithWordCharacter(text.substr(end)));
    if (touched || (token.special && parse == Parse::kText)) continue;
    if (token.lstrip) begin = std::max(done, begin - TrailingWhiteSpace(text.substr(0, begin)));
    // A token of white space may lie in what the one before it took: the library counts both.
    if (token.rstrip) end += LeadingWhiteSpace(text.substr(end));
    if (begin > done) pieces.push_back({text.substr(done, begin - done), -1});
    pieces.push_back({text.substr(begin, end - begin), token.id});
    done = std::max(done, end);
  }
  if (done < text.size()) pieces.push_back({text.substr(done), -1});
}

}  // namespace conclave::data
