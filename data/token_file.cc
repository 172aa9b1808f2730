// SPDX-License-Identifier: Apache-2.0
#include "data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"

namespace conclave::data {
namespace {

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr int64_t kHeaderBytes = 34;
constexpr uint64_t kFileVersion = 1;
constexpr uint64_t kMostEntries = uint64_t{1} << 48;  // keeps products of sizes below 2^63

// Numbers of the .idx lie at any address.
template <class T>
T Load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <class T>
void ReadAs(const char* at, std::span<int32_t> out) {
  for (int32_t& id : out) {
    const T value = Load<T>(at);
    id = value < 0 || static_cast<uint64_t>(value) > INT32_MAX ? -1 : static_cast<int32_t>(value);
    at += sizeof(T);
  }
}

absl::Status Broken(const MappedFile& file, std::string_view what) {
  return absl::DataLossError(absl::StrFormat("%s: %s", file.path(), what));
}

}  // namespace

void AppendIds(std::span<const int32_t> ids, TokenType type, std::string& bytes) {
  const size_t before = bytes.size();
  if (type == TokenType::kInt32) {
    bytes.append(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
    return;
  }
  CHECK(type == TokenType::kUint16);
  bytes.resize(before + ids.size() * sizeof(uint16_t));
  char* to = bytes.data() + before;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto narrow = static_cast<uint16_t>(ids[i]);
    std::memcpy(to + i * sizeof(narrow), &narrow, sizeof(narrow));
  }
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const core::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return core::FileError(errno, "cannot open", path);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return core::FileError(errno, "cannot stat", path);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrFormat("%s is not a regular file", path));
  if (info.st_size == 0) return MappedFile(path, nullptr, 0);
  void* data = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return core::FileError(errno, "cannot map", path);
  return MappedFile(path, static_cast<const char*>(data), info.st_size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), static_cast<size_t>(size_));
}

void MappedFile::AdviseRandom() const {
  if (data_ != nullptr) ::madvise(const_cast<char*>(data_), static_cast<size_t>(size_), MADV_RANDOM);
}

void MappedFile::AdviseWillNeed(int64_t begin, int64_t end) const {
  const int64_t page = ::sysconf(_SC_PAGESIZE), from = begin / page * page;
  if (from < end) ::madvise(const_cast<char*>(data_) + from, static_cast<size_t>(end - from), MADV_WILLNEED);
}

absl::StatusOr<TokenFile> TokenFile::Open(const std::string& idx_path, const std::string& bin_path) {
  ASSIGN_OR_RETURN(MappedFile idx, MappedFile::Open(idx_path));
  ASSIGN_OR_RETURN(MappedFile bin, MappedFile::Open(bin_path));
  TokenFile file(std::move(idx), std::move(bin));
  RETURN_IF_ERROR(file.ReadHeader());
  RETURN_IF_ERROR(file.CheckSequences());
  RETURN_IF_ERROR(file.CheckBorders());
  file.bin_.AdviseRandom();
  return file;
}

absl::Status TokenFile::ReadHeader() {
  if (idx_.size() < kHeaderBytes || std::memcmp(idx_.data(), kMagic, sizeof(kMagic)) != 0) {
    return Broken(idx_, "not a Megatron index: it does not begin with MMIDIDX");
  }
  if (const auto version = Load<uint64_t>(idx_.data() + 9); version != kFileVersion) {
    return Broken(idx_, absl::StrFormat("version %d of the format; version 1 is read", version));
  }
  type_ = static_cast<TokenType>(idx_.data()[17]);
  if (SizeOf(type_) == 0) {
    return Broken(idx_, absl::StrFormat("type code %d; token ids have code 1 (uint8), 2 (int8), 3 (int16), 4 (int32), "
                                        "5 (int64) or 8 (uint16)",
                                        idx_.data()[17]));
  }
  const auto sequences = Load<uint64_t>(idx_.data() + 18), borders = Load<uint64_t>(idx_.data() + 26);
  if (sequences > kMostEntries || borders > kMostEntries || borders == 0) {
    return Broken(idx_, absl::StrFormat("%d sequences and %d document borders", sequences, borders));
  }
  num_sequences_ = static_cast<int64_t>(sequences);
  num_borders_ = static_cast<int64_t>(borders);
  offsets_at_ = kHeaderBytes + num_sequences_ * 4;
  borders_at_ = offsets_at_ + num_sequences_ * 8;
  const int64_t expected = borders_at_ + num_borders_ * 8;
  if (idx_.size() != expected && idx_.size() != expected + num_sequences_) {
    return Broken(idx_, absl::StrFormat("%d bytes; %d sequences and %d document borders take %d, cut off or damaged",
                                        idx_.size(), num_sequences_, num_borders_, expected));
  }
  num_tokens_ = bin_.size() / SizeOf(type_);
  return absl::OkStatus();
}

absl::Status TokenFile::CheckSequences() {
  int64_t offset = 0;
  for (int64_t i = 0; i < num_sequences_; ++i) {
    const auto length = Load<int32_t>(idx_.data() + kHeaderBytes + i * 4);
    const auto stored = Load<int64_t>(idx_.data() + offsets_at_ + i * 8);
    if (length < 0 || stored != offset) {
      return Broken(idx_, absl::StrFormat("sequence %d has %d tokens at byte %d; expected was byte %d: sequences must "
                                          "follow each other without a gap",
                                          i, length, stored, offset));
    }
    offset += length * SizeOf(type_);
    if (offset > bin_.size()) {
      return Broken(
          bin_, absl::StrFormat("%d bytes, but sequence %d of the .idx ends at %d: cut off", bin_.size(), i, offset));
    }
  }
  if (offset == bin_.size()) return absl::OkStatus();
  return Broken(bin_, absl::StrFormat("%d bytes, but the sequences of the .idx have %d", bin_.size(), offset));
}

absl::Status TokenFile::CheckBorders() const {
  int64_t before = 0;
  for (int64_t i = 0; i < num_borders_; ++i) {
    const int64_t border = Border(i);
    if (border < before || border > num_sequences_ || (i == 0 && border != 0)) {
      return Broken(idx_, absl::StrFormat("document %d begins at sequence %d of %d", i, border, num_sequences_));
    }
    before = border;
  }
  if (before == num_sequences_) return absl::OkStatus();
  return Broken(idx_, absl::StrFormat("the last document ends at sequence %d of %d", before, num_sequences_));
}

int64_t TokenFile::Border(int64_t document) const { return Load<int64_t>(idx_.data() + borders_at_ + document * 8); }

int64_t TokenFile::DocumentBegin(int64_t document) const {
  const int64_t sequence = Border(document);
  if (sequence == num_sequences_) return num_tokens_;
  return Load<int64_t>(idx_.data() + offsets_at_ + sequence * 8) / SizeOf(type_);
}

int64_t TokenFile::FirstDocumentAfter(int64_t token) const {
  int64_t low = 0, high = num_documents();
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (DocumentBegin(middle) > token) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void TokenFile::Read(int64_t begin, std::span<int32_t> out) const {
  CHECK(begin >= 0 && begin + static_cast<int64_t>(out.size()) <= num_tokens_);
  const char* at = bin_.data() + begin * SizeOf(type_);
  switch (type_) {
    case TokenType::kUint8:
      return ReadAs<uint8_t>(at, out);
    case TokenType::kInt8:
      return ReadAs<int8_t>(at, out);
    case TokenType::kInt16:
      return ReadAs<int16_t>(at, out);
    case TokenType::kUint16:
      return ReadAs<uint16_t>(at, out);
    case TokenType::kInt32:
      return ReadAs<int32_t>(at, out);
    case TokenType::kInt64:
      return ReadAs<int64_t>(at, out);
  }
}

void TokenFile::Prefetch(int64_t begin, int64_t end) const {
  bin_.AdviseWillNeed(begin * SizeOf(type_), end * SizeOf(type_));
}

}  // namespace conclave::data
