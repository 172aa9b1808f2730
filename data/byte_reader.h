// SPDX-License-Identifier: Apache-2.0
// The bytes of a file in pieces, unpacked if its name ends in .gz or .zst. Memory is two buffers (and a zstd window of
// at most 128 MiB), whatever the file's size and however far it unpacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::data {

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

class ByteReader {
 public:
  static absl::StatusOr<std::unique_ptr<ByteReader>> Open(const std::string& path);
  ~ByteReader();
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  // The next piece, valid until the next call; empty at the end. Errors start with the path; a packed file that is cut
  // off, corrupt, or followed by something else is one.
  absl::StatusOr<std::string_view> Next();

  int64_t file_bytes_read() const { return file_bytes_read_; }  // before unpacking

 private:
  ByteReader(std::string path, int file);
  absl::StatusOr<std::string_view> ReadFile();
  absl::StatusOr<std::string_view> ReadUnpacked();

  std::string path_;
  int file_;
  int64_t file_bytes_read_ = 0;
  std::vector<char> raw_, unpacked_;
  std::string_view packed_;             // read, not yet unpacked
  std::unique_ptr<Unpacker> unpacker_;  // null: a plain file
};

}  // namespace conclave::data
