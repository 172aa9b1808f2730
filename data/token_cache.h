// SPDX-License-Identifier: Apache-2.0
// Text is tokenized once. The ids live in a pair of token files in a cache folder, under a key over all that decides
// them: the contents of the files, the tokenizer, how records become documents. Whatever else changes, and wherever the
// files are moved, a run finds them there.
//
//   <cache>/<key>/tokens.bin, tokens.idx, tokens.json (sizes, checksums, counts)     complete, or not there
//   <cache>/<key>.tmp/                                                              being built, locked by its builder
//   <cache>/sources/                                                                what content_index.h remembers
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/load_options.h"
#include "data/tasks/task_documents.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

namespace conclave::data {

struct TokenSource {
  TokenFile tokens;
  std::string checksum;  // of both files: what rows are made of
  int64_t largest_id = -1;
  int64_t num_files = 0, num_documents = 0, num_empty_documents = 0;
  int64_t text_bytes = 0;  // 0: the source holds token ids
};

// The ids of a source with a path, tokenized now if they are not in the cache; a pair of token files is used where it
// is. A damaged cache entry is reported and built again. Errors name file and line, or the cache folder and what to do.
absl::StatusOr<TokenSource> OpenTokenSource(const core::SourceConfig& source, const std::string& chat_template,
                                            const std::string& cache, const Tokenizer& tokenizer,
                                            const LoadOptions& options);

// The same for documents that are made; their key is over what decides them.
absl::StatusOr<TokenSource> OpenTaskTokens(const TaskDocuments& documents, const std::string& chat_template,
                                           const std::string& cache, const Tokenizer& tokenizer,
                                           const LoadOptions& options);

// data.cache, or where it is by default: $XDG_CACHE_HOME/conclave/tokens, ~/.cache/conclave/tokens.
absl::StatusOr<std::string> CacheFolder(const std::string& configured);

}  // namespace conclave::data
