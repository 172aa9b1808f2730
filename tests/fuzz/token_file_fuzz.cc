// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for Megatron token files: the first two bytes are the size of the .idx, then come the .idx and the
// .bin. Of whatever is accepted, every token can be read and every document lies inside. Both are files in memory.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/model/batch.h"
#include "data/packing.h"
#include "data/token_file.h"

namespace {

using conclave::data::TokenFile;

class MemoryFile {
 public:
  MemoryFile(const uint8_t* bytes, size_t size) : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
    CHECK_GE(file_, 0);
    CHECK_EQ(write(file_, bytes, size), size);
  }
  ~MemoryFile() { close(file_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

void CheckTokens(const TokenFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.num_tokens()));
  file.Read(0, ids);
  for (const int32_t id : ids) CHECK_GE(id, -1);
  int64_t before = 0;
  for (int64_t document = 0; document <= file.num_documents(); ++document) {
    const int64_t begin = file.DocumentBegin(document);
    CHECK_LE(before, begin);
    CHECK_LE(begin, file.num_tokens());
    before = begin;
  }
  CHECK_EQ(before, file.num_tokens());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 2) return 0;
  const size_t idx_size = std::min<size_t>(bytes[0] | (bytes[1] << 8), size - 2);
  const MemoryFile idx(bytes + 2, idx_size), bin(bytes + 2 + idx_size, size - 2 - idx_size);
  auto file = TokenFile::Open(idx.path(), bin.path());
  if (!file.ok()) {
    CHECK(!file.status().message().empty());
    return 0;
  }
  CheckTokens(*file);
  constexpr int64_t kLength = 3;
  const conclave::data::PackedRows rows(kLength, conclave::data::DocumentBorders::kMasked, *std::move(file));
  for (int64_t row = 0; row < rows.num_rows(); ++row) {
    conclave::core::Batch batch = conclave::data::PaddingBatch(1, kLength);
    rows.Fill(row, 0, batch);
    CHECK_LE(batch.num_labels, kLength);
  }
  return 0;
}
