// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for tokenizers. The first byte chooses: a foreign tokenizer.json or tiktoken file, which must be
// refused or encode some text without harm; or a text, valid UTF-8 or not, which must come back from its ids byte for
// byte.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_alphabet.h"
#include "data/tiktoken_file.h"
#include "data/tokenizer_json.h"

namespace {

using conclave::data::BpeDescription;
using conclave::data::BpeTokenizer;
using conclave::data::Parse;

constexpr std::string_view kText =
    "The  quick\n\n brown fox, 12345! caf\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD <|end|>\xFF\x80";

std::vector<int32_t> Encode(const BpeTokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.NewEncoder()->Encode(text, Parse::kText, ids);
  for (const int32_t id : ids) CHECK(id >= 0 && id < tokenizer.vocab_size());
  return ids;
}

void EncodeWith(BpeDescription description) {
  const auto tokenizer = BpeTokenizer::Create(std::move(description), {});
  if (!tokenizer.ok()) return;
  Encode(**tokenizer, kText);
  (*tokenizer)->Fingerprint();
}

// All bytes, and merges that words of letters meet.
const BpeTokenizer& GoodTokenizer() {
  static const std::unique_ptr<BpeTokenizer> tokenizer = [] {
    BpeDescription description;
    for (int byte = 0; byte < 256; ++byte) description.tokens.emplace_back(1, static_cast<char>(byte));
    for (int32_t left = 'a'; left < 'z'; ++left) {
      description.merges.push_back({left, left + 1, static_cast<int32_t>(description.tokens.size())});
      description.tokens.push_back({static_cast<char>(left), static_cast<char>(left + 1)});
    }
    description.splits = {{.regex = conclave::data::kGpt2Pattern}};
    return BpeTokenizer::Create(std::move(description), {}).value();
  }();
  return *tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  if (bytes[0] % 3 == 0) {
    if (auto file = conclave::data::ParseTokenizerJson(text, "fuzz"); file.ok())
      EncodeWith(std::move(file->description));
  } else if (bytes[0] % 3 == 1) {
    if (auto file = conclave::data::ParseTiktoken(text, "fuzz"); file.ok()) EncodeWith(*std::move(file));
  } else {
    static const std::unique_ptr<conclave::data::Encoder> encoder = GoodTokenizer().NewEncoder();
    std::vector<int32_t> ids;
    encoder->Encode(text, Parse::kText, ids);
    CHECK(Decode(GoodTokenizer(), ids) == text);
    CHECK(conclave::data::FromByteAlphabet(conclave::data::ToByteAlphabet(text)) == text);
  }
  return 0;
}
