// SPDX-License-Identifier: Apache-2.0
// Writes a Megatron pair of token files from start to end. What is known only at the end goes through a temporary file,
// so memory does not grow with the number of documents. Unless Finish succeeds, nothing stays.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "data/token_type.h"

namespace conclave::data {

class TokenFileWriter {
 public:
  struct Written {
    core::WrittenFile idx, bin;
  };
  enum class First { kNewDocument, kContinues };

  // prefix + ".idx", ".bin"; prefix + ".lengths" until Finish.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& prefix, TokenType type);
  TokenFileWriter(TokenFileWriter&&) noexcept;
  ~TokenFileWriter();

  // Documents as stored ids and their lengths; the first may go on with the document before.
  absl::Status Append(std::string_view ids, std::span<const int64_t> lengths, First first);
  absl::StatusOr<Written> Finish();

  int64_t num_tokens() const { return num_tokens_; }
  int64_t bytes() const { return num_tokens_ * SizeOf(type_) + num_sequences_ * 20; }  // of both files

 private:
  TokenFileWriter(std::string prefix, TokenType type, core::OutputFile bin, core::OutputFile lengths);
  absl::StatusOr<core::WrittenFile> WriteIndex() const;

  std::string prefix_;
  TokenType type_;
  std::unique_ptr<core::OutputFile> bin_,
      lengths_;  // lengths_: i32 per sequence, -1 - length if it is not a document's first
  int64_t num_tokens_ = 0, num_sequences_ = 0, num_documents_ = 0;
  std::vector<int32_t> lengths_to_write_;
};

}  // namespace conclave::data
