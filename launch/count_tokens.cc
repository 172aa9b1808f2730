// SPDX-License-Identifier: Apache-2.0
#include "launch/count_tokens.h"

#include <stdio.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/source_files.h"
#include "data/tokenize.h"
#include "data/tokenizer.h"
#include "launch/load_display.h"
#include "launch/model_loading.h"
#include "launch/signals.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct CountTotals {
  int64_t documents = 0, bytes = 0, tokens = 0;
};

absl::StatusOr<CountTotals> CountIn(const std::string& path, const data::Tokenizer& tokenizer,
                                    const data::RecordFormat& format, const data::LoadOptions& load) {
  ASSIGN_OR_RETURN(const std::vector<data::SourceFile> files, data::ListSourceFiles(path));
  if (files[0].format == data::FileFormat::kTokens) {
    return absl::InvalidArgumentError(path + ": holds token ids already; --count needs text");
  }
  data::LoadProgress progress{.phase = data::LoadProgress::Phase::kTokenizing, .source = path};
  for (const data::SourceFile& file : files) progress.bytes_total += file.bytes;
  CountTotals totals;
  RETURN_IF_ERROR(data::TokenizeFiles(files, tokenizer, format, data::NumThreads(load),
                                      [&](const data::EncodedChunk& chunk, int64_t file_bytes) -> absl::Status {
                                        if (chunk.num_problems > 0) {
                                          return absl::InvalidArgumentError(chunk.problems.front());
                                        }
                                        totals.documents += chunk.num_documents;
                                        totals.bytes += chunk.text_bytes;
                                        totals.tokens =
                                            std::accumulate(chunk.lengths.begin(), chunk.lengths.end(), totals.tokens);
                                        progress.bytes_done = file_bytes;
                                        return data::Report(load, progress);
                                      }));
  return totals;
}

}  // namespace

absl::StatusOr<ExitCode> CountTokens(const CountTokensOptions& options) {
  const StopSignals signals;
  const Clock::time_point load_start = Clock::now();
  ASSIGN_OR_RETURN(const std::unique_ptr<data::Tokenizer> tokenizer, LoadTokenizerOf(options.tokenizer));
  printf("tokenizer  %s ids, loaded in %.3f s\n", CountText(tokenizer->vocab_size()).c_str(), SecondsSince(load_start));
  for (const std::string& path : options.paths) {
    const Clock::time_point start = Clock::now();
    LoadDisplay display;
    const absl::StatusOr<CountTotals> totals =
        CountIn(path, *tokenizer, options.format, display.Options(options.threads));
    if (const auto stop = StopSignals::Requested(); stop && absl::IsCancelled(totals.status())) return *stop;
    RETURN_IF_ERROR(totals.status());
    const double seconds = SecondsSince(start);
    printf("%s  documents %s, bytes %s, tokens %s, %.3f bytes per token, %.1f MB/s\n", path.c_str(),
           CountText(totals->documents).c_str(), CountText(totals->bytes).c_str(), CountText(totals->tokens).c_str(),
           totals->tokens > 0 ? static_cast<double>(totals->bytes) / static_cast<double>(totals->tokens) : 0.0,
           static_cast<double>(totals->bytes) / seconds / 1e6);
  }
  return ExitCode::kDone;
}

}  // namespace conclave::launch
