// SPDX-License-Identifier: Apache-2.0
// zlib's own gzread ignores what follows the first member if it is not gzip: a corrupt second member would lose data in
// silence. So this walks the members itself: zero padding (tapes, block devices) may follow, anything else is an error.
#include "data/byte_reader.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

// Unpacks a stream of gzip members or zstd frames, one after the other.
class Unpacker {
 public:
  struct Step {
    size_t consumed, produced;
  };

  virtual ~Unpacker() = default;
  // Moves on by at least a byte in or out if it can. Without packed bytes it gives what it still holds. Errors say why,
  // not where.
  virtual absl::StatusOr<Step> Unpack(std::string_view packed, char* out, size_t size) = 0;
  // Whether the packed data may end here.
  virtual bool AtBorder() const = 0;
};

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr int kGzipOnly = 16 + MAX_WBITS;
constexpr int kMostWindowBits = 27;  // what the zstd program itself takes without being told to

class GzipUnpacker final : public Unpacker {
 public:
  GzipUnpacker() { CHECK_EQ(inflateInit2(&stream_, kGzipOnly), Z_OK); }
  ~GzipUnpacker() override { inflateEnd(&stream_); }

  bool AtBorder() const override { return !inside_member_; }

  absl::StatusOr<Step> Unpack(std::string_view packed, char* out, size_t size) override {
    if (!inside_member_) {
      const size_t padding = std::min(packed.find_first_not_of('\0'), packed.size());
      if (padding > 0) return Step{padding, 0};
      CHECK_EQ(inflateReset(&stream_), Z_OK);
      inside_member_ = true;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      inside_member_ = false;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return absl::DataLossError(
          absl::StrFormat("the gzip data is corrupt (%s)", stream_.msg != nullptr ? stream_.msg : zError(result)));
    }
    return Step{packed.size() - stream_.avail_in, size - stream_.avail_out};
  }

 private:
  z_stream stream_ = {};
  bool inside_member_ = false;
};

class ZstdUnpacker final : public Unpacker {
 public:
  ZstdUnpacker() : context_(ZSTD_createDCtx()) {
    CHECK(context_ != nullptr);
    CHECK(!ZSTD_isError(ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMostWindowBits)));
  }
  ~ZstdUnpacker() override { ZSTD_freeDCtx(context_); }

  bool AtBorder() const override { return !inside_frame_; }

  absl::StatusOr<Step> Unpack(std::string_view packed, char* out, size_t size) override {
    ZSTD_inBuffer from = {packed.data(), packed.size(), 0};
    ZSTD_outBuffer to = {out, size, 0};
    const size_t result = ZSTD_decompressStream(context_, &to, &from);
    if (ZSTD_isError(result)) {
      return absl::DataLossError(
          absl::StrFormat("the zstd data is corrupt, or needs a window above 128 MiB (%s)", ZSTD_getErrorName(result)));
    }
    inside_frame_ = result != 0;
    return Step{from.pos, to.pos};
  }

 private:
  ZSTD_DCtx* context_;
  bool inside_frame_ = false;
};

class FileReader final : public ByteReader {
 public:
  FileReader(std::string path, int file);
  ~FileReader() override { close(file_); }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  absl::StatusOr<std::string_view> Next() override { return unpacker_ ? ReadUnpacked() : ReadFile(); }
  int64_t file_bytes_read() const override { return file_bytes_read_; }

 private:
  absl::StatusOr<std::string_view> ReadFile();
  absl::StatusOr<std::string_view> ReadUnpacked();

  std::string path_;
  int file_;
  int64_t file_bytes_read_ = 0;
  std::vector<char> raw_, unpacked_;
  std::string_view packed_;             // read, not yet unpacked
  std::unique_ptr<Unpacker> unpacker_;  // null: a plain file
};

FileReader::FileReader(std::string path, int file) : path_(std::move(path)), file_(file), raw_(kBufferBytes) {
  if (path_.ends_with(".gz")) unpacker_ = std::make_unique<GzipUnpacker>();
  if (path_.ends_with(".zst")) unpacker_ = std::make_unique<ZstdUnpacker>();
  if (unpacker_) unpacked_.resize(kBufferBytes);
}

absl::StatusOr<std::string_view> FileReader::ReadFile() {
  ssize_t size;
  do {
    size = read(file_, raw_.data(), raw_.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) return absl::ErrnoToStatus(errno, path_);
  file_bytes_read_ += size;
  return std::string_view(raw_.data(), static_cast<size_t>(size));
}

absl::StatusOr<std::string_view> FileReader::ReadUnpacked() {
  size_t size = 0;
  while (size < unpacked_.size()) {
    if (packed_.empty()) {
      ASSIGN_OR_RETURN(packed_, ReadFile());
    }
    const bool at_end = packed_.empty();
    if (at_end && unpacker_->AtBorder()) break;
    const auto step = unpacker_->Unpack(packed_, unpacked_.data() + size, unpacked_.size() - size);
    if (!step.ok()) {
      return absl::DataLossError(absl::StrFormat("%s: %s", path_, std::string(step.status().message())));
    }
    if (at_end && step->produced == 0) {  // nothing was left inside of the unpacker, either
      const char* kind = path_.ends_with(".gz") ? "gzip" : "zstd";
      return absl::DataLossError(absl::StrFormat("%s: the %s data is cut off", path_, kind));
    }
    packed_.remove_prefix(step->consumed);
    size += step->produced;
  }
  return std::string_view(unpacked_.data(), size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteReader>> ByteReader::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  return std::make_unique<FileReader>(path, file);
}

}  // namespace conclave::data
