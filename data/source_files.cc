// SPDX-License-Identifier: Apache-2.0
#include "data/source_files.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPacked[] = {".gz", ".zst"};
constexpr std::string_view kText[] = {".txt", ".md"};
constexpr std::string_view kJsonLines[] = {".jsonl", ".json"};
constexpr std::string_view kTokens[] = {".bin", ".idx"};
constexpr std::string_view kNotText[] = {".xz", ".bz2", ".zip", ".tar", ".parquet", ".arrow"};

template <size_t n>
bool EndsWithOneOf(std::string_view name, const std::string_view (&endings)[n]) {
  return std::any_of(std::begin(endings), std::end(endings), [&](std::string_view e) { return name.ends_with(e); });
}

std::string_view WithoutPacking(std::string_view path) {
  for (const std::string_view ending : kPacked) {
    if (path.ends_with(ending)) return path.substr(0, path.size() - ending.size());
  }
  return path;
}

absl::StatusOr<int64_t> SizeOfFile(const std::string& path) {
  std::error_code error;
  if (const auto size = fs::file_size(path, error); !error) return static_cast<int64_t>(size);
  return absl::NotFoundError(absl::StrFormat("%s: %s", path, error.message()));
}

absl::StatusOr<SourceFile> DescribeTokens(const std::string& path) {
  const std::string prefix = path.substr(0, path.size() - kTokens[0].size());
  for (const std::string_view ending : kTokens) {
    std::error_code ignored;
    if (fs::exists(prefix + std::string(ending), ignored)) continue;
    return absl::NotFoundError(
        absl::StrFormat("%s: token files are a pair, and %s%s does not exist", path, prefix, ending));
  }
  ASSIGN_OR_RETURN(const int64_t bytes, SizeOfFile(prefix + ".bin"));
  return SourceFile{prefix, FileFormat::kTokens, bytes};
}

absl::StatusOr<SourceFile> DescribeFile(const std::string& path) {
  for (const std::string_view ending : kNotText) {
    if (!path.ends_with(ending)) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s files are not read; supported are text and .jsonl, plain, .gz or .zst, and pairs "
                        ".bin/.idx of token ids",
                        path, ending));
  }
  if (EndsWithOneOf(path, kTokens)) return DescribeTokens(path);
  std::error_code ignored;
  if (fs::is_other(path, ignored)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: is a pipe or a device, not a file", path));
  }
  ASSIGN_OR_RETURN(const int64_t bytes, SizeOfFile(path));
  const bool lines = EndsWithOneOf(WithoutPacking(path), kJsonLines);
  return SourceFile{path, lines ? FileFormat::kJsonLines : FileFormat::kText, bytes};
}

absl::StatusOr<std::vector<std::string>> FilesBelow(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error, ignored;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().starts_with('.')) {
      if (entry->is_directory(ignored)) entry.disable_recursion_pending();
      continue;
    }
    const std::string path = entry->path().string();
    const std::string_view name = WithoutPacking(path);
    if (!EndsWithOneOf(name, kText) && !EndsWithOneOf(name, kJsonLines)) continue;
    if (entry->is_regular_file(ignored)) paths.push_back(path);
  }
  if (error) return absl::NotFoundError(absl::StrFormat("%s: %s", folder, error.message()));
  if (!paths.empty()) return paths;
  return absl::NotFoundError(absl::StrFormat(
      "%s: the folder has no .txt, .md, .jsonl or .json file (plain, .gz or .zst), also not in its subfolders",
      folder));
}

absl::StatusOr<std::vector<std::string>> FilesLike(const std::string& pattern) {
  glob_t found = {};
  const int result = ::glob(pattern.c_str(), GLOB_MARK | GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths;
  for (size_t i = 0; i < found.gl_pathc; ++i) {
    if (const std::string path = found.gl_pathv[i]; !path.ends_with('/')) paths.push_back(path);
  }
  ::globfree(&found);
  if (result != 0 && result != GLOB_NOMATCH) {
    return absl::UnavailableError(absl::StrFormat("%s: the folders of this pattern cannot be read", pattern));
  }
  if (paths.empty()) return absl::NotFoundError(absl::StrFormat("%s: no file matches this pattern", pattern));
  return paths;
}

bool IsPattern(const std::string& path) {
  std::error_code ignored;
  return path.find_first_of("*?[") != std::string::npos && !fs::exists(path, ignored);
}

}  // namespace

absl::StatusOr<std::vector<SourceFile>> ListSourceFiles(const std::string& path) {
  std::vector<std::string> paths = {path};
  std::error_code ignored;
  if (IsPattern(path)) {
    ASSIGN_OR_RETURN(paths, FilesLike(path));
  } else if (fs::is_directory(path, ignored)) {
    ASSIGN_OR_RETURN(paths, FilesBelow(path));
  }
  std::sort(paths.begin(), paths.end());
  std::vector<SourceFile> files;
  for (const std::string& name : paths) {
    ASSIGN_OR_RETURN(SourceFile file, DescribeFile(name));
    if (file.format == FileFormat::kTokens && paths.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: a pair of token files must be a source of its own, not one of %d files of %s", name,
                          paths.size(), path));
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace conclave::data
