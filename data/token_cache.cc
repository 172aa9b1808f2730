// SPDX-License-Identifier: Apache-2.0
#include "data/token_cache.h"

#include <stdio.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/build_folder.h"
#include "data/content_index.h"
#include "data/source_files.h"
#include "data/token_cache_entry.h"
#include "data/token_file_writer.h"
#include "data/tokenize.h"

namespace conclave::data {
namespace {

constexpr int64_t kFormatVersion = 1;  // changes when the same text would become other ids
constexpr char kHint[] = "data.cache names the folder of tokenized text";

void Add(std::string_view text, core::Hasher& hasher) {
  const uint64_t size = text.size();
  hasher.Update(&size, sizeof(size));
  hasher.Update(text.data(), text.size());
}

std::string KeyOf(std::span<const SourceFile> files, std::span<const FileContent> contents, const RecordFormat& format,
                  const Tokenizer& tokenizer) {
  core::Hasher hasher;
  Add(absl::StrFormat("tokens %d", kFormatVersion), hasher);
  Add(tokenizer.Fingerprint(), hasher);
  Add(tokenizer.ChatTemplateText(), hasher);
  Add(format.chat_template, hasher);
  Add(format.field, hasher);
  for (size_t i = 0; i < files.size(); ++i) {
    const bool is_packed = files[i].path.ends_with(".gz") || files[i].path.ends_with(".zst");
    Add(absl::StrFormat("%d %d", static_cast<int>(files[i].format), is_packed), hasher);
    Add(contents[i].checksum, hasher);
  }
  return hasher.HexDigest();
}

// What one build needs to know.
struct Build {
  const std::string& name;  // path of the source, or what is made
  const RecordFormat& format;
  const std::vector<SourceFile>& files;
  const std::string& cache;
  const Tokenizer& tokenizer;
  const LoadOptions& options;
};

absl::Status FullDisk(const Build& build, const absl::Status& status, int64_t written, const LoadProgress& progress) {
  const double share = static_cast<double>(std::max<int64_t>(progress.bytes_done, 1)) /
                       static_cast<double>(std::max<int64_t>(progress.bytes_total, 1));
  const int64_t expected = static_cast<int64_t>(static_cast<double>(written) / std::min(share, 1.0));
  const int64_t missing = expected - written - core::FreeBytes(build.cache);  // what was written goes again
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s. Tokenizing %s takes about %d MiB in the cache folder %s, about %d MiB more than there is room for. Free as "
      "much there, or give another folder as data.cache",
      std::string(status.message()).substr(0, status.message().find(" (")), build.name,
      std::max<int64_t>(expected >> 20, 1), build.cache, std::max<int64_t>(missing >> 20, 1)));
}

// Tokenizes into the folder; the first broken record ends it.
absl::StatusOr<EntryInfo> WriteTokens(const Build& build, const std::string& prefix) {
  ASSIGN_OR_RETURN(TokenFileWriter writer,
                   TokenFileWriter::Create(prefix, TypeForVocabulary(build.tokenizer.vocab_size())));
  EntryInfo info{.num_files = static_cast<int64_t>(build.files.size())};
  LoadProgress progress{.phase = LoadProgress::Phase::kTokenizing, .source = build.name};
  for (const SourceFile& file : build.files) progress.bytes_total += file.bytes;
  auto full_disk_or = [&](const absl::Status& status, int64_t written) {
    return absl::IsResourceExhausted(status) ? FullDisk(build, status, written, progress) : status;
  };
  RETURN_IF_ERROR(
      TokenizeFiles(build.files, build.tokenizer, build.format, NumThreads(build.options),
                    [&](const EncodedChunk& chunk, int64_t file_bytes) -> absl::Status {
                      if (chunk.num_problems > 0) return absl::InvalidArgumentError(chunk.problems.front());
                      info.num_documents += chunk.num_documents;
                      info.num_empty_documents += chunk.num_empty_documents;
                      info.text_bytes += chunk.text_bytes;
                      progress.bytes_done = file_bytes;
                      const int64_t written = writer.bytes();
                      using First = TokenFileWriter::First;
                      const First first = chunk.continues_document ? First::kContinues : First::kNewDocument;
                      RETURN_IF_ERROR(full_disk_or(writer.Append(chunk.tokens, chunk.lengths, first), written));
                      return Report(build.options, progress);
                    }));
  if (writer.num_tokens() == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: there is no text in it", build.name));
  }
  absl::StatusOr<TokenFileWriter::Written> written = writer.Finish();
  if (!written.ok()) return full_disk_or(written.status(), writer.bytes());
  info.idx = written->idx;
  info.bin = written->bin;
  return info;
}

absl::Status CheckUnchanged(const std::vector<SourceFile>& files, const std::vector<FileStamp>& stamps) {
  for (size_t i = 0; i < files.size(); ++i) {
    ASSIGN_OR_RETURN(const FileStamp now, StampOf(files[i]));
    if (now == stamps[i]) continue;
    return absl::UnavailableError(
        absl::StrFormat("%s: changed while it was read; start again when it is complete", files[i].path));
  }
  return absl::OkStatus();
}

absl::Status BuildInto(BuildFolder& folder, const Build& build, const std::vector<FileStamp>& stamps) {
  ASSIGN_OR_RETURN(EntryInfo info, WriteTokens(build, folder.path() + "/tokens"));
  RETURN_IF_ERROR(CheckUnchanged(build.files, stamps));
  ASSIGN_OR_RETURN(info.bin_stamp, FileStamp::Of(folder.path() + "/tokens.bin"));
  RETURN_IF_ERROR(WriteEntryInfo(folder.path(), info));
  return folder.Publish();
}

TokenSource ToSource(Entry entry) {
  core::Hasher hasher;
  Add(entry.info.idx.checksum, hasher);
  Add(entry.info.bin.checksum, hasher);
  return {.tokens = std::move(entry.tokens),
          .checksum = hasher.HexDigest(),
          .num_files = entry.info.num_files,
          .num_documents = entry.info.num_documents,
          .num_empty_documents = entry.info.num_empty_documents,
          .text_bytes = entry.info.text_bytes};
}

absl::StatusOr<TokenSource> OpenText(const Build& build) {
  std::vector<FileStamp> stamps;
  for (const SourceFile& file : build.files) {
    ASSIGN_OR_RETURN(stamps.emplace_back(), StampOf(file));
  }
  ASSIGN_OR_RETURN(const std::vector<FileContent> contents,
                   ReadContents(build.files, build.name, build.cache, build.options));
  const std::string path = build.cache + "/" + KeyOf(build.files, contents, build.format, build.tokenizer);
  absl::StatusOr<Entry> entry = OpenEntry(path, build.name, build.options);
  if (entry.ok()) return ToSource(*std::move(entry));
  if (absl::IsCancelled(entry.status())) return entry.status();
  if (!absl::IsNotFound(entry.status())) {
    core::LogWarning(absl::StrFormat("%s; tokenizing %s again", std::string(entry.status().message()), build.name));
  }
  const LoadProgress waiting{.phase = LoadProgress::Phase::kWaiting, .source = build.name};
  absl::StatusOr<BuildFolder> folder = BuildFolder::Acquire(path, waiting, build.options);
  if (!folder.ok() && absl::IsCancelled(folder.status())) return folder.status();
  if (!folder.ok()) {
    return absl::Status(folder.status().code(),
                        absl::StrFormat("%s; %s", std::string(folder.status().message()), kHint));
  }
  BuildFolder::RemoveAbandoned(build.cache);
  // Perhaps another process has built it meanwhile.
  entry = OpenEntry(path, build.name, build.options);
  if (entry.ok()) return ToSource(*std::move(entry));
  RETURN_IF_ERROR(BuildInto(*folder, build, stamps));
  ASSIGN_OR_RETURN(entry, OpenEntry(path, build.name, build.options));
  return ToSource(*std::move(entry));
}

absl::StatusOr<TokenSource> OpenTokens(const core::SourceConfig& source, const std::vector<SourceFile>& files,
                                       const std::string& cache, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<FileContent> contents, ReadContents(files, source.path, cache, options));
  ASSIGN_OR_RETURN(TokenFile tokens, TokenFile::Open(files[0].path + ".idx", files[0].path + ".bin"));
  if (tokens.num_tokens() == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: there is no token in it", source.path));
  }
  const int64_t num_documents = tokens.num_documents();
  return TokenSource{.tokens = std::move(tokens),
                     .checksum = contents[0].checksum,
                     .largest_id = contents[0].largest_id,
                     .num_files = 1,
                     .num_documents = num_documents};
}

}  // namespace

absl::StatusOr<TokenSource> OpenTokenSource(const core::SourceConfig& source, const std::string& chat_template,
                                            const std::string& cache, const Tokenizer& tokenizer,
                                            const LoadOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<SourceFile> files, ListSourceFiles(source.path));
  if (files[0].format == FileFormat::kTokens) return OpenTokens(source, files, cache, options);
  const RecordFormat format{.field = source.field, .chat_template = chat_template};
  return OpenText({source.path, format, files, cache, tokenizer, options});
}

absl::StatusOr<TokenSource> OpenTaskTokens(const TaskDocuments& documents, const std::string& chat_template,
                                           const std::string& cache, const Tokenizer& tokenizer,
                                           const LoadOptions& options) {
  const std::vector<SourceFile> files = {documents.AsFile()};
  const RecordFormat format{.chat_template = chat_template};
  return OpenText({documents.name(), format, files, cache, tokenizer, options});
}

absl::StatusOr<std::string> CacheFolder(const std::string& configured) {
  if (!configured.empty()) return configured;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/conclave/tokens";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] != '\0') return std::string(home) + "/.cache/conclave/tokens";
  return absl::FailedPreconditionError(
      "data.cache: there is no home folder for tokenized text (neither XDG_CACHE_HOME nor HOME is set); give a folder");
}

}  // namespace conclave::data
