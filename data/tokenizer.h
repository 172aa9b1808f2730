// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. Two kinds: `bytes`, built in (265 ids, byte_tokenizer.h), and byte-level BPE from a
// Hugging Face tokenizer.json or a tiktoken file (bpe_tokenizer.h). A tokenizer never changes once loaded and is shared
// by threads; what a thread needs to be fast, a memory of words, is its Encoder.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::data {

// Names of special tokens in a text are plain characters (kText) or recognised (kSpecial). Added tokens that are not
// special (the tags of `bytes`, <think> of DeepSeek-R1) are recognised in both.
enum class Parse { kText, kSpecial };

// One thread's way to encode. Outlived by its tokenizer. The ids of a text do not depend on what was encoded before.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual void Encode(std::string_view text, Parse parse, std::vector<int32_t>& ids) = 0;  // appends
  // The same for what follows where a long text was cut (text_cut.h): no blank is put before it.
  virtual void EncodeRest(std::string_view text, Parse parse, std::vector<int32_t>& ids) { Encode(text, parse, ids); }
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int64_t vocab_size() const = 0;  // every id is below it
  virtual int32_t bos_id() const = 0;      // -1: none; also of the others
  virtual int32_t eos_id() const = 0;
  virtual int32_t pad_id() const = 0;

  // For much text. Thread-safe; each encoder belongs to one thread.
  virtual std::unique_ptr<Encoder> NewEncoder() const = 0;
  // For a prompt: appends the ids of `text`.
  void Encode(std::string_view text, Parse parse, std::vector<int32_t>& ids) const {
    NewEncoder()->Encode(text, parse, ids);
  }
  // The bytes of one token; special tokens give their name, e.g. "<eos>". Unknown ids give "".
  virtual std::string TokenText(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;

  // 32 hexadecimal digits that change whenever the ids of any text, or bos_id, eos_id could: part of the keys of
  // caches.
  virtual std::string Fingerprint() const = 0;
  // The Jinja text that comes with it (tokenizer_config.json or chat_template.jinja); "" if there is none.
  virtual std::string ChatTemplateText() const = 0;
  // Files for a model folder: tokenizer.json, tokenizer_config.json (with chat template), ...
  virtual std::map<std::string, std::string> Files() const = 0;
};

// The token that begins a document; -1 where none does, or where the one that ends the document before it is the same.
inline int32_t FirstToken(const Tokenizer& tokenizer) {
  return tokenizer.bos_id() == tokenizer.eos_id() ? -1 : tokenizer.bos_id();
}

// "bytes", a tokenizer.json, a tiktoken file, or a folder that has one of them.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& name);

// Concatenates TokenText of the ids that are not special; what is not UTF-8 stays as it is.
std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

// Emits text of a token stream as soon as it is whole UTF-8; incomplete sequences wait, broken ones become U+FFFD.
// kKeep: names of special tokens are part of the text.
enum class SpecialTokens { kDrop, kKeep };
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, SpecialTokens special = SpecialTokens::kDrop)
      : tokenizer_(tokenizer), special_(special) {}
  std::string Push(int32_t id);
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  SpecialTokens special_;
  std::string pending_;
};

}  // namespace conclave::data
