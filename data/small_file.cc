// SPDX-License-Identifier: Apache-2.0
#include "data/small_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_format.h"

namespace conclave::data {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrFormat("%s: %s", path, error.message()));
  if (size > kMaxSmallFileBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d bytes, at most 256 MiB", path, size));
  }
  std::ifstream file(path, std::ios::binary);
  std::string contents(size, '\0');
  file.read(contents.data(), static_cast<std::streamsize>(size));
  if (!file) return absl::NotFoundError(absl::StrFormat("%s: %s", path, std::strerror(errno)));
  return contents;
}

}  // namespace conclave::data
