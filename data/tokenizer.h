// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. Built in: `bytes`, ids 0..255 are bytes, then nine special tokens, 265 in all. Folders
// that we write hold it as a tokenizer.json that AutoTokenizer of transformers reads with the same ids.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int64_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;  // -1: none
  virtual int32_t eos_id() const = 0;
  virtual int32_t pad_id() const = 0;

  // Appends the ids of `text`. kText: names of special tokens in it are plain characters; kSpecial: they are
  // recognised. Added tokens that are not special (the tags of `bytes`) are recognised in both.
  enum class Parse { kText, kSpecial };
  virtual void Encode(std::string_view text, Parse parse, std::vector<int32_t>& ids) const = 0;
  // The bytes of one token; special tokens give their name, e.g. "<eos>". Unknown ids give "".
  virtual std::string TokenText(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;

  // Files for a model folder: tokenizer.json, tokenizer_config.json (with chat template), special_tokens_map.json.
  virtual std::map<std::string, std::string> Files() const = 0;
};

// "bytes", a tokenizer.json, or a folder that has one.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& name);

// Concatenates TokenText of the ids that are not special.
std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

// Emits text of a token stream as soon as it is whole UTF-8; incomplete sequences wait, broken ones become U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string Push(int32_t id);
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace conclave::data
