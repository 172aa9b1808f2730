// SPDX-License-Identifier: Apache-2.0
// The bytes of a file in pieces, unpacked if its name ends in .gz. Memory is two buffers, whatever the file's size.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct z_stream_s;

namespace conclave::data {

class ByteReader {
 public:
  static absl::StatusOr<std::unique_ptr<ByteReader>> Open(const std::string& path);
  ~ByteReader();
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  // The next piece, valid until the next call; empty at the end. Errors start with the path; a packed file that is cut
  // off, corrupt, or followed by something else is one.
  absl::StatusOr<std::string_view> Next();

 private:
  ByteReader(std::string path, int file);
  absl::StatusOr<std::string_view> ReadFile();
  absl::StatusOr<std::string_view> Unpack();
  absl::Status RefillInput();  // leaves nothing to unpack at the end of the file
  void SkipPaddingBetweenMembers();

  std::string path_;
  int file_;
  std::vector<char> raw_, unpacked_;
  std::unique_ptr<z_stream_s> inflater_;  // null: a plain file
  bool inside_member_ = false;            // a gzip file is a sequence of members
};

}  // namespace conclave::data
