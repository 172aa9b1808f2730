// SPDX-License-Identifier: Apache-2.0
// Files to token ids on several threads: one reads and cuts chunks, several parse and encode them, the caller's thread
// takes the results in the order of the text. What waits between them is bounded in bytes, so memory does not grow with
// the data, and the results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"

#include "data/document_encoder.h"
#include "data/source_files.h"
#include "data/tokenizer.h"

namespace conclave::data {

// Called in order on the caller's thread. `file_bytes` is how much of all files is done, as stored. An error ends it
// all.
using ChunkSink = std::function<absl::Status(const EncodedChunk& chunk, int64_t file_bytes)>;

// The files hold text or JSON lines. threads: of encoding, at least 1.
absl::Status TokenizeFiles(std::span<const SourceFile> files, const Tokenizer& tokenizer, const RecordFormat& format,
                           int threads, const ChunkSink& sink);

}  // namespace conclave::data
