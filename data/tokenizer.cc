// SPDX-License-Identifier: Apache-2.0
// Finds the tokenizer that a name means.
#include "data/tokenizer.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"

#include "data/byte_tokenizer.h"

namespace conclave::data {
namespace {

constexpr uintmax_t kMaxFileBytes = uintmax_t{256} << 20;

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrFormat("%s: %s", path, error.message()));
  if (size > kMaxFileBytes)
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d bytes, at most 256 MiB", path, size));
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrFormat("%s: %s", path, std::strerror(errno)));
  return contents.str();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& name) {
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(name, ignored);
  const std::string path = is_folder ? (std::filesystem::path(name) / "tokenizer.json").string() : name;
  absl::StatusOr<std::string> contents = ReadWholeFile(path);
  if (!contents.ok()) {
    return absl::Status(
        contents.status().code(),
        absl::StrFormat("tokenizer: %s (expected \"bytes\", a tokenizer.json, or a folder that has one)",
                        std::string(contents.status().message())));
  }
  if (ByteTokenizer::Describes(*contents)) return std::make_unique<ByteTokenizer>();
  return absl::UnimplementedError(absl::StrFormat(
      "%s: not a tokenizer that this program supports. Supported: \"bytes\", which is built in (265 ids), and "
      "the tokenizer.json that folders written with it have",
      path));
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!tokenizer.IsSpecial(id)) text += tokenizer.TokenText(id);
  }
  return text;
}

}  // namespace conclave::data
