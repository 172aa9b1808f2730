// SPDX-License-Identifier: Apache-2.0
#include "data/token_cache_entry.h"

#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;

constexpr int kEntryVersion = 1;
constexpr int64_t kMostInfoBytes = 1 << 20;

std::string InfoPath(const std::string& path) { return path + "/tokens.json"; }

core::WrittenFile FileFrom(const Json& json, const char* name) {
  return {.name = name, .bytes = json.at("bytes"), .checksum = json.at("checksum")};
}

absl::StatusOr<EntryInfo> ReadEntryInfo(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, core::ReadTextFile(InfoPath(path), kMostInfoBytes));
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kEntryVersion) return absl::DataLossError(InfoPath(path) + ": of another version");
    const Json& stamp = json.at("bin_seen_right");
    return EntryInfo{.num_files = json.at("files"),
                     .num_documents = json.at("documents"),
                     .num_empty_documents = json.at("empty_documents"),
                     .text_bytes = json.at("text_bytes"),
                     .idx = FileFrom(json.at("idx"), "tokens.idx"),
                     .bin = FileFrom(json.at("bin"), "tokens.bin"),
                     .bin_stamp = {stamp.at("bytes"), stamp.at("mtime_ns"), stamp.at("inode")}};
  } catch (const Json::exception& error) {
    return absl::DataLossError(absl::StrFormat("%s is damaged", InfoPath(path)));
  }
}

absl::Status CheckSize(const MappedFile& file, const core::WrittenFile& expected) {
  if (file.size() == expected.bytes) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("%s has %d bytes instead of %d", file.path(), file.size(), expected.bytes));
}

absl::Status CheckChecksum(const std::string& path, const std::string& found, const core::WrittenFile& expected) {
  if (found == expected.checksum) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("%s is damaged: its checksum does not match", path));
}

// Reads the .bin unless it is known to be right.
absl::Status CheckBin(const std::string& path, const std::string& source, const LoadOptions& options, EntryInfo& info) {
  const std::string bin = path + "/tokens.bin";
  ASSIGN_OR_RETURN(const FileStamp stamp, FileStamp::Of(bin));
  if (stamp == info.bin_stamp) return absl::OkStatus();
  LoadProgress progress{.phase = LoadProgress::Phase::kVerifying, .source = source, .bytes_total = info.bin.bytes};
  ASSIGN_OR_RETURN(const std::string checksum, ChecksumOf(bin, progress, options));
  RETURN_IF_ERROR(CheckChecksum(bin, checksum, info.bin));
  info.bin_stamp = stamp;
  WriteEntryInfo(path, info).IgnoreError();  // a read-only cache is read again each time
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Entry> OpenEntry(const std::string& path, const std::string& source, const LoadOptions& options) {
  if (!core::FileExists(path)) return absl::NotFoundError(path);
  auto open = [&]() -> absl::StatusOr<Entry> {
    ASSIGN_OR_RETURN(EntryInfo info, ReadEntryInfo(path));
    ASSIGN_OR_RETURN(TokenFile tokens, TokenFile::Open(path + "/tokens.idx", path + "/tokens.bin"));
    RETURN_IF_ERROR(CheckSize(tokens.idx(), info.idx));
    RETURN_IF_ERROR(CheckSize(tokens.bin(), info.bin));
    core::Hasher hasher;
    hasher.Update(tokens.idx().data(), static_cast<size_t>(tokens.idx().size()));
    RETURN_IF_ERROR(CheckChecksum(tokens.idx().path(), hasher.HexDigest(), info.idx));
    RETURN_IF_ERROR(CheckBin(path, source, options, info));
    return Entry{std::move(info), std::move(tokens)};
  };
  absl::StatusOr<Entry> entry = open();
  if (entry.ok() || !absl::IsNotFound(entry.status())) return entry;
  return absl::DataLossError(entry.status().message());  // a folder that lacks a file
}

absl::Status WriteEntryInfo(const std::string& path, const EntryInfo& info) {
  auto file = [](const core::WrittenFile& written) -> Json {
    return {{"bytes", written.bytes}, {"checksum", written.checksum}};
  };
  const Json json = {
      {"version", kEntryVersion},
      {"files", info.num_files},
      {"documents", info.num_documents},
      {"empty_documents", info.num_empty_documents},
      {"text_bytes", info.text_bytes},
      {"idx", file(info.idx)},
      {"bin", file(info.bin)},
      {"bin_seen_right",
       {{"bytes", info.bin_stamp.bytes}, {"mtime_ns", info.bin_stamp.mtime_ns}, {"inode", info.bin_stamp.inode}}}};
  const std::string temporary = absl::StrFormat("%s.%d.tmp", InfoPath(path), ::getpid());
  RETURN_IF_ERROR(core::WriteTextFile(temporary, json.dump(1) + "\n").status());
  if (::rename(temporary.c_str(), InfoPath(path).c_str()) == 0) return absl::OkStatus();
  const int error = errno;
  ::unlink(temporary.c_str());
  return core::FileError(error, "cannot write", InfoPath(path));
}

}  // namespace conclave::data
