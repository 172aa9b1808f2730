// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for text files: the first byte picks the ending (text or JSON lines; plain, .gz, .zst), the rest is
// the file. Whatever it holds becomes documents or problems, and the counts of both agree with what was delivered.
#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>

#include "core/base/check.h"
#include "data/byte_tokenizer.h"
#include "data/document_encoder.h"
#include "data/text_source.h"

namespace {

constexpr const char* kEndings[] = {".txt", ".jsonl", ".txt.gz", ".jsonl.gz", ".txt.zst", ".jsonl.zst"};
constexpr int kMostChunks = 16;  // a few bytes can unpack to gigabytes, at a bounded speed

std::string WriteInput(const uint8_t* bytes, size_t size) {
  const std::string path = "/dev/shm/conclave_fuzz_" + std::to_string(getpid()) + kEndings[bytes[0] % 6];
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK_GE(file, 0);
  CHECK_EQ(write(file, bytes + 1, size - 1), size - 1);
  close(file);
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave::data;
  if (size < 1) return 0;
  const std::string path = WriteInput(bytes, size);
  const auto files = ListSourceFiles(path);
  CHECK(files.ok());
  auto source = TextSource::Open(files->front());
  CHECK(source.ok());
  static const ByteTokenizer tokenizer;
  static const RecordFormat format;
  DocumentEncoder encoder(tokenizer, format);
  TextChunk chunk;
  for (int i = 0; i < kMostChunks && source->Next(chunk); ++i) {
    const EncodedChunk encoded = encoder.Encode(std::move(chunk));
    const int64_t tokens = std::accumulate(encoded.lengths.begin(), encoded.lengths.end(), int64_t{0});
    CHECK_EQ(encoded.tokens.size(), 2 * tokens);
    CHECK_EQ(encoded.lengths.size(), encoded.num_documents + encoded.continues_document);
    CHECK_LE(encoded.problems.size(), encoded.num_problems);
    for (const std::string& problem : encoded.problems) CHECK(problem.find(path) == 0);
  }
  unlink(path.c_str());
  return 0;
}
