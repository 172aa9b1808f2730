// SPDX-License-Identifier: Apache-2.0
// The .idx is three arrays one after the other: each is one walk over the lengths.
#include "data/token_file_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr int64_t kMostPerSequence = int64_t{1} << 30;  // the .idx holds 32-bit lengths: more is several sequences
constexpr size_t kEntriesAtOnce = 1 << 16;

template <class T>
void Put(T value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Calls visit(length, begins_document) for every sequence.
template <class Visit>
absl::Status ForEachSequence(const core::InputFile& lengths, Visit visit) {
  std::vector<int32_t> part(kEntriesAtOnce);
  for (int64_t at = 0; at < lengths.size();) {
    const int64_t bytes = std::min<int64_t>(lengths.size() - at, static_cast<int64_t>(part.size() * sizeof(int32_t)));
    RETURN_IF_ERROR(lengths.Read(at, bytes, part.data()));
    for (int64_t i = 0; i < bytes / 4; ++i) {
      RETURN_IF_ERROR(visit(part[i] < 0 ? -1 - part[i] : part[i], part[i] >= 0));
    }
    at += bytes;
  }
  return absl::OkStatus();
}

// Collects small pieces into large writes.
class BufferedOutput {
 public:
  explicit BufferedOutput(core::OutputFile& file) : file_(file) {}
  std::string& bytes() { return bytes_; }
  absl::Status FlushIfLarge() { return bytes_.size() < kEntriesAtOnce ? absl::OkStatus() : Flush(); }
  absl::Status Flush() {
    RETURN_IF_ERROR(file_.Append(bytes_.data(), static_cast<int64_t>(bytes_.size())));
    bytes_.clear();
    return absl::OkStatus();
  }

 private:
  core::OutputFile& file_;
  std::string bytes_;
};

}  // namespace

TokenFileWriter::TokenFileWriter(std::string prefix, TokenType type, core::OutputFile bin, core::OutputFile lengths)
    : prefix_(std::move(prefix)),
      type_(type),
      bin_(std::make_unique<core::OutputFile>(std::move(bin))),
      lengths_(std::make_unique<core::OutputFile>(std::move(lengths))) {}

TokenFileWriter::TokenFileWriter(TokenFileWriter&&) noexcept = default;
TokenFileWriter::~TokenFileWriter() = default;

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& prefix, TokenType type) {
  ASSIGN_OR_RETURN(core::OutputFile bin, core::OutputFile::Create(prefix + ".bin", 0));
  ASSIGN_OR_RETURN(core::OutputFile lengths, core::OutputFile::Create(prefix + ".lengths", 0));
  return TokenFileWriter(prefix, type, std::move(bin), std::move(lengths));
}

absl::Status TokenFileWriter::Append(std::string_view ids, std::span<const int64_t> lengths, First first) {
  lengths_to_write_.clear();
  bool begins = first == First::kNewDocument;
  for (int64_t length : lengths) {
    num_documents_ += begins;
    num_tokens_ += length;
    do {
      const int64_t part = std::min(length, kMostPerSequence);
      lengths_to_write_.push_back(static_cast<int32_t>(begins ? part : -1 - part));
      length -= part;
      begins = false;
    } while (length > 0);
    begins = true;
  }
  num_sequences_ += static_cast<int64_t>(lengths_to_write_.size());
  RETURN_IF_ERROR(bin_->Append(ids.data(), static_cast<int64_t>(ids.size())));
  return lengths_->Append(lengths_to_write_.data(), static_cast<int64_t>(lengths_to_write_.size() * sizeof(int32_t)));
}

absl::StatusOr<core::WrittenFile> TokenFileWriter::WriteIndex() const {
  ASSIGN_OR_RETURN(const core::InputFile lengths, core::InputFile::Open(prefix_ + ".lengths"));
  ASSIGN_OR_RETURN(core::OutputFile idx, core::OutputFile::Create(prefix_ + ".idx", num_sequences_ * 20));
  BufferedOutput out(idx);
  out.bytes().assign("MMIDIDX\0\0", 9);
  Put(uint64_t{1}, out.bytes());
  Put(static_cast<uint8_t>(type_), out.bytes());
  Put(static_cast<uint64_t>(num_sequences_), out.bytes());
  Put(static_cast<uint64_t>(num_documents_ + 1), out.bytes());
  RETURN_IF_ERROR(ForEachSequence(lengths, [&](int32_t length, bool) {
    Put(length, out.bytes());
    return out.FlushIfLarge();
  }));
  int64_t offset = 0, sequence = 0;
  RETURN_IF_ERROR(ForEachSequence(lengths, [&](int32_t length, bool) {
    Put(offset, out.bytes());
    offset += length * SizeOf(type_);
    return out.FlushIfLarge();
  }));
  RETURN_IF_ERROR(ForEachSequence(lengths, [&](int32_t, bool begins) {
    if (begins) Put(sequence, out.bytes());
    ++sequence;
    return out.FlushIfLarge();
  }));
  Put(sequence, out.bytes());
  RETURN_IF_ERROR(out.Flush());
  return idx.Finish();
}

absl::StatusOr<TokenFileWriter::Written> TokenFileWriter::Finish() {
  Written written;
  ASSIGN_OR_RETURN(written.idx, WriteIndex());
  absl::StatusOr<core::WrittenFile> bin = bin_->Finish();
  lengths_.reset();  // deletes the file
  if (!bin.ok()) {
    ::unlink((prefix_ + ".idx").c_str());
    return bin.status();
  }
  written.bin = *std::move(bin);
  return written;
}

}  // namespace conclave::data
