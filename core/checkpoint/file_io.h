// SPDX-License-Identifier: Apache-2.0
// Files that are believed only when checked. An InputFile is a regular file read with pread: a file that shrinks is an
// error, not a signal. An OutputFile hashes what it writes and exists only once Finish has fsynced it; until then its
// destructor deletes it. Every error names path and reason, and a full disk says how much is missing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

#include "core/base/hash.h"

namespace conclave::core {

struct WrittenFile {
  std::string name;  // file name without folder
  int64_t bytes = 0;
  std::string checksum;  // XXH3-128 of the whole file, 32 hexadecimal digits
};

// An open file, closed with its owner.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { Close(); }

  int get() const { return fd_; }
  int Close();  // as close(2); 0 if there is nothing to close

 private:
  int fd_;
};

class InputFile {
 public:
  // Refuses everything that is not a regular file (a pipe would block, a device never ends).
  static absl::StatusOr<InputFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // bytes, when it was opened
  absl::Status Read(int64_t offset, int64_t bytes, void* out) const;

 private:
  InputFile(FileDescriptor fd, std::string path, int64_t size)
      : fd_(std::move(fd)), path_(std::move(path)), size_(size) {}

  FileDescriptor fd_;
  std::string path_;
  int64_t size_;
};

class OutputFile {
 public:
  // Replaces an existing file. `expected_bytes` is only for the message about a full disk.
  static absl::StatusOr<OutputFile> Create(const std::string& path, int64_t expected_bytes);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  absl::Status Append(const void* data, int64_t bytes);
  // fsyncs and closes; afterwards the file stays.
  absl::StatusOr<WrittenFile> Finish();

 private:
  OutputFile(FileDescriptor fd, std::string path, int64_t expected_bytes)
      : fd_(std::move(fd)), path_(std::move(path)), expected_bytes_(expected_bytes) {}
  absl::Status Failed(int error) const;

  FileDescriptor fd_;
  std::string path_;
  int64_t expected_bytes_;
  int64_t bytes_ = 0;
  Hasher hasher_;
};

// "<action> <path>: <reason>" with the code that fits `error` (an errno).
absl::Status FileError(int error, std::string_view action, const std::string& path);

// A whole small file; larger than `max_bytes` is an error.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes);
// Writes and fsyncs a whole file.
absl::StatusOr<WrittenFile> WriteTextFile(const std::string& path, std::string_view text);
// The same in the place of what is there, at one instant: readers see the old text or the new one, also after a crash.
absl::Status ReplaceTextFile(const std::string& path, std::string_view text);
// Size and checksum of a file as they are on disk now.
absl::StatusOr<WrittenFile> HashFile(const std::string& path);

absl::Status MakeDirectories(const std::string& path);  // with parents, durable
absl::Status SyncDirectory(const std::string& path);    // makes created, renamed and deleted names durable
absl::Status RemoveTree(const std::string& path);       // absent is fine
absl::Status RenamePath(const std::string& from, const std::string& to);  // `to` must not exist, or be an empty folder
absl::Status ExchangePaths(const std::string& a, const std::string& b);   // at one instant
bool FileExists(const std::string& path);
int64_t FreeBytes(const std::string& path);  // on its file system; -1 if unknown

// A file name that cannot leave its folder: not empty, no slash, no control character, not "." or "..".
bool IsPlainFileName(std::string_view name);

}  // namespace conclave::core
