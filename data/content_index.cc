// SPDX-License-Identifier: Apache-2.0
#include "data/content_index.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/tasks/task_documents.h"
#include "data/token_file.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;

constexpr int kIndexVersion = 1;
constexpr int64_t kMostIndexBytes = int64_t{256} << 20;
constexpr int64_t kPartBytes = int64_t{4} << 20;
constexpr int64_t kTokensAtOnce = 1 << 18;
constexpr std::chrono::nanoseconds kRacy = std::chrono::seconds(2);

struct Remembered {
  FileStamp stamp;
  FileContent content;
};
using Index = std::map<std::string, Remembered>;  // by path

std::string IndexPath(const std::string& cache, const std::string& source) {
  std::error_code ignored;
  const std::string absolute = std::filesystem::absolute(source, ignored).string();
  core::Hasher hasher;
  hasher.Update(absolute.data(), absolute.size());
  return cache + "/sources/" + hasher.HexDigest() + ".json";
}

// What cannot be read is as good as nothing.
Index ReadIndex(const std::string& path) {
  Index index;
  const absl::StatusOr<std::string> text = core::ReadTextFile(path, kMostIndexBytes);
  if (!text.ok()) return index;
  try {
    const Json json = Json::parse(*text);
    if (json.at("version") != kIndexVersion) return index;
    for (const Json& file : json.at("files")) {
      index[file.at("path")] = {.stamp = {file.at("bytes"), file.at("mtime_ns"), file.at("inode")},
                                .content = {file.at("checksum"), file.at("largest_id")}};
    }
  } catch (const Json::exception&) {
    index.clear();
  }
  return index;
}

void WriteIndex(const std::string& path, const Index& index) {
  Json files = Json::array();
  for (const auto& [name, known] : index) {
    files.push_back({{"path", name},
                     {"bytes", known.stamp.bytes},
                     {"mtime_ns", known.stamp.mtime_ns},
                     {"inode", known.stamp.inode},
                     {"checksum", known.content.checksum},
                     {"largest_id", known.content.largest_id}});
  }
  const std::string text =
      Json{{"version", kIndexVersion}, {"files", std::move(files)}}.dump(1, ' ', false, Json::error_handler_t::replace);
  const std::string temporary = absl::StrFormat("%s.%d.tmp", path, ::getpid());
  // Only a memory: if it cannot be kept, the next start reads the data again.
  if (!core::MakeDirectories(std::filesystem::path(path).parent_path().string()).ok()) return;
  if (!core::WriteTextFile(temporary, text + "\n").ok()) return;
  if (::rename(temporary.c_str(), path.c_str()) != 0) ::unlink(temporary.c_str());
}

bool IsSettled(const FileStamp& stamp) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return now - std::chrono::nanoseconds(stamp.mtime_ns) >= kRacy;
}

absl::StatusOr<FileContent> ReadTokens(const SourceFile& file, LoadProgress& progress, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const TokenFile tokens, TokenFile::Open(file.path + ".idx", file.path + ".bin"));
  core::Hasher hasher;
  hasher.Update(tokens.idx().data(), static_cast<size_t>(tokens.idx().size()));
  FileContent content;
  std::vector<int32_t> ids;
  const int64_t width = SizeOf(tokens.type());
  for (int64_t begin = 0; begin < tokens.num_tokens(); begin += kTokensAtOnce) {
    ids.resize(static_cast<size_t>(std::min(kTokensAtOnce, tokens.num_tokens() - begin)));
    tokens.Read(begin, ids);
    const auto [least, most] = std::minmax_element(ids.begin(), ids.end());
    if (*least < 0) {
      return absl::InvalidArgumentError(absl::StrFormat("%s.bin: token %d is no id: negative or above 2^31 - 1",
                                                        file.path, begin + (least - ids.begin())));
    }
    content.largest_id = std::max<int64_t>(content.largest_id, *most);
    const int64_t bytes = static_cast<int64_t>(ids.size()) * width;
    hasher.Update(tokens.bin().data() + begin * width, static_cast<size_t>(bytes));
    progress.bytes_done += bytes;
    RETURN_IF_ERROR(Report(options, progress));
  }
  content.checksum = hasher.HexDigest();
  return content;
}

absl::StatusOr<FileContent> ReadContent(const SourceFile& file, LoadProgress& progress, const LoadOptions& options) {
  if (file.format == FileFormat::kTokens) return ReadTokens(file, progress, options);
  FileContent content;
  ASSIGN_OR_RETURN(content.checksum, ChecksumOf(file.path, progress, options));
  return content;
}

}  // namespace

absl::StatusOr<FileStamp> FileStamp::Of(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return core::FileError(errno, "cannot stat", path);
  return FileStamp{info.st_size, int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec, info.st_ino};
}

absl::StatusOr<FileStamp> StampOf(const SourceFile& file) {
  if (file.documents != nullptr) return FileStamp();
  if (file.format != FileFormat::kTokens) return FileStamp::Of(file.path);
  ASSIGN_OR_RETURN(const FileStamp idx, FileStamp::Of(file.path + ".idx"));
  ASSIGN_OR_RETURN(const FileStamp bin, FileStamp::Of(file.path + ".bin"));
  return FileStamp{idx.bytes + bin.bytes, std::max(idx.mtime_ns, bin.mtime_ns), 31 * idx.inode + bin.inode};
}

absl::StatusOr<std::string> ChecksumOf(const std::string& path, LoadProgress& progress, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const core::InputFile file, core::InputFile::Open(path));
  std::vector<char> part(static_cast<size_t>(std::min(file.size(), kPartBytes)));
  core::Hasher hasher;
  for (int64_t at = 0; at < file.size(); at += kPartBytes) {
    const int64_t bytes = std::min(kPartBytes, file.size() - at);
    RETURN_IF_ERROR(file.Read(at, bytes, part.data()));
    hasher.Update(part.data(), static_cast<size_t>(bytes));
    progress.bytes_done += bytes;
    RETURN_IF_ERROR(Report(options, progress));
  }
  return hasher.HexDigest();
}

absl::StatusOr<std::vector<FileContent>> ReadContents(std::span<const SourceFile> files, const std::string& source,
                                                      const std::string& cache, const LoadOptions& options) {
  const std::string path = IndexPath(cache, source);
  const Index before = cache.empty() ? Index() : ReadIndex(path);
  Index index;
  bool learned = false;
  LoadProgress progress{.phase = LoadProgress::Phase::kHashing, .source = source};
  for (const SourceFile& file : files) progress.bytes_total += file.bytes;
  std::vector<FileContent> contents;
  for (const SourceFile& file : files) {
    if (file.documents != nullptr) {
      contents.push_back({.checksum = file.documents->Fingerprint()});
      continue;
    }
    ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(file));
    const auto known = before.find(file.path);
    if (known != before.end() && known->second.stamp == stamp) {
      contents.push_back(known->second.content);
      progress.bytes_done += file.bytes;
    } else {
      const bool settled = IsSettled(stamp);
      ASSIGN_OR_RETURN(FileContent content, ReadContent(file, progress, options));
      contents.push_back(std::move(content));
      learned |= settled;
      if (!settled) continue;
    }
    index[file.path] = {stamp, contents.back()};
  }
  if (learned && !cache.empty()) WriteIndex(path, index);
  return contents;
}

}  // namespace conclave::data
