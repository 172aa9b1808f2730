// SPDX-License-Identifier: Apache-2.0
// A Megatron pair of files as memory: PREFIX.bin is the bare stream of token ids, PREFIX.idx says where sequences and
// documents begin. Both are mapped, so what a process holds does not grow with the data.
//
//   .idx  "MMIDIDX\0\0", u64 version 1, u8 type, u64 sequences, u64 borders  (34 bytes, little-endian)
//         i32 length per sequence | i64 byte offset per sequence | i64 border: first sequence per document, and the end
//         optionally an i8 mode per sequence
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"

#include "data/token_type.h"

namespace conclave::data {

// A whole file in memory, read-only.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  const char* data() const { return data_; }
  // Hints for the system: pages will be read in no order; [begin, end) soon.
  void AdviseRandom() const;
  void AdviseWillNeed(int64_t begin, int64_t end) const;

 private:
  MappedFile(std::string path, const char* data, int64_t size) : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const char* data_ = nullptr;
  int64_t size_ = 0;
};

class TokenFile {
 public:
  // Checks every number of the .idx before it is used. An error names the file and what is wrong with it.
  static absl::StatusOr<TokenFile> Open(const std::string& idx_path, const std::string& bin_path);

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_borders_ - 1; }
  TokenType type() const { return type_; }
  const MappedFile& idx() const { return idx_; }
  const MappedFile& bin() const { return bin_; }

  // First token of a document; of num_documents(): num_tokens().
  int64_t DocumentBegin(int64_t document) const;
  // The first document that begins behind `token`; num_documents() if none does.
  int64_t FirstDocumentAfter(int64_t token) const;

  // Ids [begin, begin + out.size()). Ids above 2^31 - 1 or below 0 become -1.
  void Read(int64_t begin, std::span<int32_t> out) const;
  void Prefetch(int64_t begin, int64_t end) const;  // tokens that will be read soon

 private:
  TokenFile(MappedFile idx, MappedFile bin) : idx_(std::move(idx)), bin_(std::move(bin)) {}
  absl::Status ReadHeader();
  absl::Status CheckSequences();
  absl::Status CheckBorders() const;
  int64_t Border(int64_t document) const;  // sequences before the document

  MappedFile idx_, bin_;
  TokenType type_ = TokenType::kUint16;
  int64_t num_sequences_ = 0, num_borders_ = 0, num_tokens_ = 0;
  int64_t offsets_at_ = 0, borders_at_ = 0;  // bytes in the .idx
};

}  // namespace conclave::data
