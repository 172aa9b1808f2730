// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE as GPT-2, Llama 3, Qwen and DeepSeek use it: added tokens are cut out, the rest is normalized, cut
// into words (word_splitter.h), and each word merged (bpe_merger.h). Words repeat, so each encoder remembers what
// became of them. Bytes that are not UTF-8 are encoded as they are and come back when decoded.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include "data/added_tokens.h"
#include "data/bpe_description.h"
#include "data/bpe_merger.h"
#include "data/tokenizer.h"
#include "data/word_splitter.h"

namespace conclave::data {

class BpeTokenizer final : public Tokenizer {
 public:
  // What stands in other files than the vocabulary.
  struct Surroundings {
    int32_t bos_id = -1, eos_id = -1, pad_id = -1;
    std::string chat_template;
    std::map<std::string, std::string> files;
  };

  static absl::StatusOr<std::unique_ptr<BpeTokenizer>> Create(BpeDescription description, Surroundings surroundings);

  int64_t vocab_size() const override { return vocab_size_; }
  int32_t bos_id() const override { return surroundings_.bos_id; }
  int32_t eos_id() const override { return surroundings_.eos_id; }
  int32_t pad_id() const override { return surroundings_.pad_id; }
  std::unique_ptr<Encoder> NewEncoder() const override;
  std::string TokenText(int32_t id) const override;
  bool IsSpecial(int32_t id) const override;
  std::string Fingerprint() const override;
  std::string ChatTemplateText() const override { return surroundings_.chat_template; }
  std::map<std::string, std::string> Files() const override { return surroundings_.files; }

 private:
  friend class BpeEncoder;
  BpeTokenizer(BpeDescription description, Surroundings surroundings, WordRules rules);

  const BpeDescription description_;
  const Surroundings surroundings_;
  const WordRules rules_;
  const BpeMerger merger_;
  const AddedTokenMatcher raw_matcher_, normalized_matcher_;
  absl::flat_hash_map<int32_t, const AddedToken*> added_by_id_;
  int64_t vocab_size_ = 0;
};

}  // namespace conclave::data
