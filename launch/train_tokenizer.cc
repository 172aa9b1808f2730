// SPDX-License-Identifier: Apache-2.0
// What can be wrong is checked before words are counted, which takes long; tokenizer.json is written last, so a folder
// that has one is whole.
#include "launch/train_tokenizer.h"

#include <stdio.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/bpe_merger.h"
#include "data/bpe_trainer.h"
#include "data/known_vocabularies.h"
#include "data/tokenizer_json_writer.h"
#include "data/word_counts.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

namespace fs = std::filesystem;

constexpr char kVocabularyFile[] = "tokenizer.json";

absl::StatusOr<std::vector<data::SplitRule>> SplitsFor(const std::string& pattern) {
  if (const std::vector<data::SplitRule>* known = data::FindSplitRules(pattern)) return *known;
  const bool is_name = std::all_of(pattern.begin(), pattern.end(),
                                   [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; });
  if (!is_name) return std::vector<data::SplitRule>{{.regex = pattern}};
  return absl::InvalidArgumentError(absl::StrFormat(
      "--pattern: \"%s\" is neither a known one (%s) nor a regular expression", pattern, data::KnownFamilies()));
}

absl::Status PrepareFolder(const std::string& folder) {
  const std::string file = (fs::path(folder) / kVocabularyFile).string();
  if (core::FileExists(file)) {
    return absl::AlreadyExistsError(absl::StrFormat("%s is there already; remove it or choose another --out", file));
  }
  return core::MakeDirectories(folder);
}

absl::Status WriteFiles(const data::BpeDescription& description, const TrainTokenizerOptions& options) {
  data::TokenizerConfig config;
  if (!options.special_tokens.empty()) {
    config.eos = options.special_tokens[0];
    config.additional_special_tokens.assign(options.special_tokens.begin() + 1, options.special_tokens.end());
  }
  ASSIGN_OR_RETURN(std::string vocab, data::WriteVocabJson(description));
  ASSIGN_OR_RETURN(std::string tokenizer, data::WriteTokenizerJson(description));
  const std::pair<const char*, std::string> files[] = {{"tokenizer_config.json", data::TokenizerConfigJson(config)},
                                                       {"special_tokens_map.json", data::SpecialTokensMapJson(config)},
                                                       {"vocab.json", std::move(vocab)},
                                                       {"merges.txt", data::WriteMergesText(description)},
                                                       {kVocabularyFile, std::move(tokenizer)}};
  for (const auto& [name, text] : files) {
    RETURN_IF_ERROR(core::WriteTextFile((fs::path(options.out) / name).string(), text).status());
  }
  return absl::OkStatus();
}

struct Totals {
  int64_t bytes = 0, tokens = 0;
};

// Of the words that were learned from.
Totals Encode(const data::BpeDescription& description, const std::vector<data::WordCount>& words) {
  const data::BpeMerger merger(description);
  Totals totals;
  std::vector<int32_t> ids;
  for (const auto& [word, count] : words) {
    ids.clear();
    merger.Encode(word, ids);
    totals.bytes += count * static_cast<int64_t>(word.size());
    totals.tokens += count * static_cast<int64_t>(ids.size());
  }
  return totals;
}

class Stopwatch {
 public:
  double Seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void PrintWords(const data::CountedWords& counted, double seconds) {
  printf("text           %s in %s documents\n", BytesText(counted.num_bytes).c_str(),
         CountText(counted.num_documents).c_str());
  printf("words          %s, %s distinct (%.1f s)\n", CountText(counted.num_words).c_str(),
         CountText(static_cast<int64_t>(counted.words.size())).c_str(), seconds);
  fflush(stdout);
}

void PrintVocabulary(const data::BpeDescription& description, const Totals& totals, double seconds) {
  printf("vocabulary     %s tokens: %d special, 256 bytes, %s merges (%.1f s)\n",
         CountText(static_cast<int64_t>(description.tokens.size())).c_str(),
         static_cast<int>(description.added_tokens.size()),
         CountText(static_cast<int64_t>(description.merges.size())).c_str(), seconds);
  printf("tokens         1.000 per byte before, %.3f after: %.2f bytes per token\n",
         static_cast<double>(totals.tokens) / static_cast<double>(totals.bytes),
         static_cast<double>(totals.bytes) / static_cast<double>(totals.tokens));
  fflush(stdout);
}

}  // namespace

absl::StatusOr<ExitCode> TrainTokenizer(const TrainTokenizerOptions& options) {
  data::BpeTrainerOptions training{.vocab_size = options.vocab_size, .special_tokens = options.special_tokens};
  ASSIGN_OR_RETURN(training.splits, SplitsFor(options.pattern));
  RETURN_IF_ERROR(data::CheckBpeTrainerOptions(training));
  ASSIGN_OR_RETURN(const data::WordRules rules, data::WordRules::Compile(training.splits));
  RETURN_IF_ERROR(PrepareFolder(options.out));

  const Stopwatch counting;
  const data::WordCountOptions count_options{
      .field = options.field, .special_tokens = options.special_tokens, .threads = options.threads};
  ASSIGN_OR_RETURN(const data::CountedWords counted, data::CountWords(options.files, rules, count_options));
  if (counted.words.empty()) return absl::InvalidArgumentError("there is no text in the files of --train");
  PrintWords(counted, counting.Seconds());

  const Stopwatch merging;
  ASSIGN_OR_RETURN(const data::BpeDescription description, data::TrainBpe(counted.words, training));
  const double seconds = merging.Seconds();
  PrintVocabulary(description, Encode(description, counted.words), seconds);
  if (static_cast<int64_t>(description.tokens.size()) < options.vocab_size) {
    core::LogWarning(absl::StrFormat("stopped at %s of %s tokens: every word of the text is one token",
                                     CountText(static_cast<int64_t>(description.tokens.size())),
                                     CountText(options.vocab_size)));
  }
  RETURN_IF_ERROR(WriteFiles(description, options));
  printf("written        %s\n", (fs::path(options.out) / kVocabularyFile).c_str());
  return ExitCode::kDone;
}

}  // namespace conclave::launch
