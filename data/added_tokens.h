// SPDX-License-Identifier: Apache-2.0
// Finds added tokens in text: the leftmost one, of those the longest, as the tokenizers library does.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/bpe_description.h"
#include "data/tokenizer.h"

namespace conclave::data {

class AddedTokenMatcher {
 public:
  // A piece of text between added tokens, or an added token (id >= 0) with the white space that it takes.
  struct Piece {
    std::string_view text;
    int32_t id = -1;
  };

  // Empty ones are never found.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // Appends the pieces of `text`, valid UTF-8, in order.
  void Split(std::string_view text, Parse parse, std::vector<Piece>& pieces) const;

 private:
  struct Node {  // of a trie over bytes; children are a list of siblings
    int32_t first_child = -1, next_sibling = -1;
    int32_t token = -1;  // index in tokens_ of the one that ends here
    char byte = 0;
  };
  struct Match {
    int32_t token = -1;
    size_t length = 0;
  };

  void Insert(std::string_view content, int32_t token);
  int32_t Child(int32_t node, char byte) const;
  Match LongestAt(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;               // [0]: the root
  std::array<int32_t, 256> first_nodes_;  // children of the root by byte; -1: none
};

}  // namespace conclave::data
