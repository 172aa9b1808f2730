// SPDX-License-Identifier: Apache-2.0
// What another program made of a text, one JSON object per line: input, ids, decoded.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "data/tokenizer.h"

namespace conclave::data {

struct TokenizerCase {
  std::string input, decoded;
  std::vector<int32_t> ids;
};

// Empty if the file is missing.
inline std::vector<TokenizerCase> ReadTokenizerCases(const std::string& path) {
  std::vector<TokenizerCase> cases;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json object = nlohmann::json::parse(line);
    const std::string input = object["input"].get<std::string>();
    cases.push_back({input, object.value("decoded", input), object["ids"].get<std::vector<int32_t>>()});
  }
  return cases;
}

inline std::vector<int32_t> EncodeAll(const Tokenizer& tokenizer, std::string_view text, Parse parse) {
  std::vector<int32_t> ids;
  tokenizer.Encode(text, parse, ids);
  return ids;
}

// With the names of special tokens, U+FFFD for what is not UTF-8.
inline std::string DecodeAll(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer, SpecialTokens::kKeep);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

}  // namespace conclave::data
