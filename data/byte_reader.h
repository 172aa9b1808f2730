// SPDX-License-Identifier: Apache-2.0
// The bytes of a file in pieces, unpacked if its name ends in .gz or .zst. Memory is two buffers (and a zstd window of
// at most 128 MiB), whatever the file's size and however far it unpacks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::data {

class ByteReader {
 public:
  static absl::StatusOr<std::unique_ptr<ByteReader>> Open(const std::string& path);
  virtual ~ByteReader() = default;

  // The next piece, valid until the next call; empty at the end. Errors start with the path; a packed file that is cut
  // off, corrupt, or followed by something else is one.
  virtual absl::StatusOr<std::string_view> Next() = 0;

  virtual int64_t file_bytes_read() const = 0;  // before unpacking
};

}  // namespace conclave::data
