// SPDX-License-Identifier: Apache-2.0
// zlib's own gzread ignores what follows the first member if it is not gzip: a corrupt second member would lose data in
// silence. So this walks the members itself: zero padding (tapes, block devices) may follow, anything else is an error.
#include "data/byte_reader.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr int kGzipOnly = 16 + MAX_WBITS;

}  // namespace

ByteReader::ByteReader(std::string path, int file) : path_(std::move(path)), file_(file), raw_(kBufferBytes) {
  if (!path_.ends_with(".gz")) return;
  unpacked_.resize(kBufferBytes);
  inflater_ = std::make_unique<z_stream>();
  CHECK_EQ(inflateInit2(inflater_.get(), kGzipOnly), Z_OK);
}

ByteReader::~ByteReader() {
  if (inflater_) inflateEnd(inflater_.get());
  close(file_);
}

absl::StatusOr<std::unique_ptr<ByteReader>> ByteReader::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  return std::unique_ptr<ByteReader>(new ByteReader(path, file));
}

absl::StatusOr<std::string_view> ByteReader::Next() { return inflater_ ? Unpack() : ReadFile(); }

absl::StatusOr<std::string_view> ByteReader::ReadFile() {
  ssize_t size;
  do {
    size = read(file_, raw_.data(), raw_.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) return absl::ErrnoToStatus(errno, path_);
  return std::string_view(raw_.data(), static_cast<size_t>(size));
}

absl::Status ByteReader::RefillInput() {
  if (inflater_->avail_in > 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string_view piece, ReadFile());
  inflater_->next_in = reinterpret_cast<Bytef*>(raw_.data());
  inflater_->avail_in = static_cast<uInt>(piece.size());
  return absl::OkStatus();
}

void ByteReader::SkipPaddingBetweenMembers() {
  while (inflater_->avail_in > 0 && *inflater_->next_in == 0) {
    ++inflater_->next_in;
    --inflater_->avail_in;
  }
}

absl::StatusOr<std::string_view> ByteReader::Unpack() {
  inflater_->next_out = reinterpret_cast<Bytef*>(unpacked_.data());
  inflater_->avail_out = static_cast<uInt>(unpacked_.size());
  while (inflater_->avail_out > 0) {
    RETURN_IF_ERROR(RefillInput());
    if (inflater_->avail_in == 0) {
      if (inside_member_) return absl::DataLossError(absl::StrFormat("%s: the gzip data is cut off", path_));
      break;
    }
    if (!inside_member_) {
      SkipPaddingBetweenMembers();
      if (inflater_->avail_in == 0) continue;
      CHECK_EQ(inflateReset(inflater_.get()), Z_OK);
      inside_member_ = true;
    }
    const int result = inflate(inflater_.get(), Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      inside_member_ = false;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return absl::DataLossError(absl::StrFormat("%s: the gzip data is corrupt (%s)", path_,
                                                 inflater_->msg != nullptr ? inflater_->msg : zError(result)));
    }
  }
  return std::string_view(unpacked_.data(), unpacked_.size() - inflater_->avail_out);
}

}  // namespace conclave::data
