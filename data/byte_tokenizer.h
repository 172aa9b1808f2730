// SPDX-License-Identifier: Apache-2.0
// The built-in tokenizer `bytes`: ids 0..255 are bytes, 256..264 nine names. Five of them control (<bos> <eos> <pad>
// <|User|>
// <|Assistant|>): special, never made from plain text, never part of decoded text. The four tags <think> </think>
// <answer>
// </answer> are ordinary vocabulary, as <think> is in DeepSeek-R1: always one token, and visible in decoded text, where
// answers are looked for. So decoding gives back every text, and a label's bytes are the bytes it stands for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace conclave::data {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kBos = 256, kEos = 257, kPad = 258, kUser = 259, kAssistant = 260;
  static constexpr int32_t kThink = 261, kEndThink = 262, kAnswer = 263, kEndAnswer = 264;
  static constexpr int64_t kVocabSize = 265;

  int64_t vocab_size() const override { return kVocabSize; }
  int32_t bos_id() const override { return kBos; }
  int32_t eos_id() const override { return kEos; }
  int32_t pad_id() const override { return kPad; }
  std::unique_ptr<Encoder> NewEncoder() const override;
  std::string TokenText(int32_t id) const override;
  bool IsSpecial(int32_t id) const override { return id >= kBos && id < kThink; }
  std::string Fingerprint() const override;
  std::string ChatTemplateText() const override;
  std::map<std::string, std::string> Files() const override;

  // True if a tokenizer.json describes this tokenizer, also after transformers has written it anew.
  static bool Describes(std::string_view tokenizer_json);
};

}  // namespace conclave::data
