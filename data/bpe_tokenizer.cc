// SPDX-License-Identifier: Apache-2.0
#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/unicode.h"
#include "data/word_cache.h"

namespace conclave::data {
namespace {

std::string NormalizeAll(std::string_view text, const std::vector<Normalization>& forms) {
  std::string normalized(text);
  for (const Normalization form : forms) normalized = Normalize(normalized, form);
  return normalized;
}

enum class LookedForIn { kText, kNormalizedText };

AddedTokenMatcher MakeMatcher(const BpeDescription& description, LookedForIn where) {
  std::vector<AddedToken> tokens;
  for (const AddedToken& token : description.added_tokens) {
    if (token.normalized != (where == LookedForIn::kNormalizedText)) continue;
    tokens.push_back(token);
  }
  return AddedTokenMatcher(std::move(tokens));
}

}  // namespace

class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const BpeTokenizer& tokenizer) : tokenizer_(tokenizer), splitter_(tokenizer.rules_) {}

  void EncodeRest(std::string_view text, Parse parse, std::vector<int32_t>& ids) override {
    continues_ = true;
    Encode(text, parse, ids);
  }

  void Encode(std::string_view text, Parse parse, std::vector<int32_t>& ids) override {
    while (!text.empty()) {
      const size_t valid = ValidUtf8Length(text);
      if (valid > 0) EncodeText(text.substr(0, valid), parse, ids);
      text.remove_prefix(valid);
      size_t broken = 0;
      while (broken < text.size() && core::ClassifyFront(text.substr(broken)).kind != core::Utf8Front::kWhole) ++broken;
      if (broken > 0) {
        tokenizer_.merger_.Encode(text.substr(0, broken), ids);
        continues_ = true;
      }
      text.remove_prefix(broken);
    }
    continues_ = false;
  }

 private:
  void EncodeText(std::string_view text, Parse parse, std::vector<int32_t>& ids) {
    if (tokenizer_.raw_matcher_.empty()) return EncodePlain(text, parse, ids);
    pieces_.clear();
    tokenizer_.raw_matcher_.Split(text, parse, pieces_);
    for (const AddedTokenMatcher::Piece& piece : pieces_) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continues_ = false;
      } else {
        EncodePlain(piece.text, parse, ids);
      }
    }
  }

  // Text without added tokens that are looked for before normalization.
  void EncodePlain(std::string_view text, Parse parse, std::vector<int32_t>& ids) {
    const std::vector<Normalization>& forms = tokenizer_.description_.normalizations;
    if (!forms.empty()) {
      normalized_ = NormalizeAll(text, forms);
      text = normalized_;
    }
    if (tokenizer_.normalized_matcher_.empty()) return EncodeWords(text, ids);
    normalized_pieces_.clear();
    tokenizer_.normalized_matcher_.Split(text, parse, normalized_pieces_);
    for (const AddedTokenMatcher::Piece& piece : normalized_pieces_) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continues_ = false;
      } else {
        EncodeWords(piece.text, ids);
      }
    }
  }

  void EncodeWords(std::string_view text, std::vector<int32_t>& ids) {
    const bool continues = std::exchange(continues_, false);
    if (tokenizer_.description_.add_prefix_space && !continues && !text.empty() && text[0] != ' ') {
      prefixed_.assign(1, ' ').append(text);
      text = prefixed_;
    }
    words_.clear();
    splitter_.Split(text, words_);
    for (const std::string_view word : words_) {
      if (cache_.Find(word, ids)) continue;
      const size_t begin = ids.size();
      tokenizer_.merger_.Encode(word, ids);
      cache_.Insert(word, std::span(ids).subspan(begin));
    }
  }

  const BpeTokenizer& tokenizer_;
  WordSplitter splitter_;
  WordCache cache_;
  std::vector<AddedTokenMatcher::Piece> pieces_, normalized_pieces_;
  std::string normalized_, prefixed_;
  bool continues_ = false;  // the words that come next go on with a text: no blank is put before them
  std::vector<std::string_view> words_;
};

BpeTokenizer::BpeTokenizer(BpeDescription description, Surroundings surroundings, WordRules rules)
    : description_(std::move(description)),
      surroundings_(std::move(surroundings)),
      rules_(std::move(rules)),
      merger_(description_),
      raw_matcher_(MakeMatcher(description_, LookedForIn::kText)),
      normalized_matcher_(MakeMatcher(description_, LookedForIn::kNormalizedText)),
      vocab_size_(static_cast<int64_t>(description_.tokens.size())) {
  for (const AddedToken& token : description_.added_tokens) {
    added_by_id_.emplace(token.id, &token);
    vocab_size_ = std::max<int64_t>(vocab_size_, token.id + 1);
  }
}

absl::StatusOr<std::unique_ptr<BpeTokenizer>> BpeTokenizer::Create(BpeDescription description,
                                                                   Surroundings surroundings) {
  ASSIGN_OR_RETURN(WordRules rules, WordRules::Compile(description.splits));
  for (AddedToken& token : description.added_tokens) {
    if (token.normalized) token.content = NormalizeAll(token.content, description.normalizations);
  }
  return std::unique_ptr<BpeTokenizer>(
      new BpeTokenizer(std::move(description), std::move(surroundings), std::move(rules)));
}

std::unique_ptr<Encoder> BpeTokenizer::NewEncoder() const { return std::make_unique<BpeEncoder>(*this); }

std::string BpeTokenizer::TokenText(int32_t id) const {
  if (const auto added = added_by_id_.find(id); added != added_by_id_.end()) return added->second->content;
  if (id < 0 || id >= static_cast<int64_t>(description_.tokens.size())) return "";
  if (!description_.tokens[id].empty()) return description_.tokens[id];
  for (const auto& [plain_id, text] : description_.plain_tokens) {
    if (plain_id == id) return text;
  }
  return "";
}

bool BpeTokenizer::IsSpecial(int32_t id) const {
  const auto added = added_by_id_.find(id);
  return added != added_by_id_.end() && added->second->special;
}

std::string BpeTokenizer::Fingerprint() const {
  core::Hasher hasher;
  const auto add_number = [&](int64_t number) { hasher.Update(&number, sizeof(number)); };
  const auto add_text = [&](const std::string& text) {
    add_number(static_cast<int64_t>(text.size()));
    hasher.Update(text.data(), text.size());
  };
  const BpeDescription& d = description_;
  add_number(static_cast<int64_t>(d.tokens.size()));
  for (const std::string& token : d.tokens) add_text(token);
  add_number(static_cast<int64_t>(d.merges.size()));
  hasher.Update(d.merges.data(), d.merges.size() * sizeof(d.merges[0]));
  for (const AddedToken& token : d.added_tokens) {
    add_text(token.content);
    const int flags =
        token.special | token.normalized << 1 | token.lstrip << 2 | token.rstrip << 3 | token.single_word << 4;
    add_number(int64_t{token.id} << 8 | flags);
  }
  for (const Normalization form : d.normalizations) add_number(static_cast<int64_t>(form));
  for (const SplitRule& rule : d.splits) {
    add_text(rule.regex);
    add_number(static_cast<int64_t>(rule.behavior) << 1 | rule.invert);
  }
  add_number(d.rank_is_result | d.ignore_merges << 1 | d.add_prefix_space << 2);
  for (const int32_t id : {d.unknown_id, bos_id(), eos_id()}) add_number(id);
  return hasher.HexDigest();
}

}  // namespace conclave::data
