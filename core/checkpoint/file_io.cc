// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;  // hashed while it is still in cache

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string FileNameOf(const std::string& path) { return std::filesystem::path(path).filename().string(); }

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

int FileDescriptor::Close() {
  const int fd = std::exchange(fd_, -1);
  return fd < 0 ? 0 : ::close(fd);
}

absl::Status FileError(int error, std::string_view action, const std::string& path) {
  const std::string text = absl::StrFormat("%s %s: %s", action, path, std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat("disk full: ", text));
    case EIO:
      return absl::DataLossError(text);
    default:
      return absl::UnavailableError(text);
  }
}

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return FileError(errno, "cannot open", path);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return FileError(errno, "cannot stat", path);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat("not a regular file: ", path));
  return InputFile(std::move(fd), path, info.st_size);
}

absl::Status InputFile::Read(int64_t offset, int64_t bytes, void* out) const {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t count = ::pread(fd_.get(), to, static_cast<size_t>(bytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(errno, "cannot read", path_);
    if (count == 0) {
      return absl::DataLossError(
          absl::StrFormat("%s ends at byte %d where %d more were expected", path_, offset, bytes));
    }
    to += count;
    offset += count;
    bytes -= count;
  }
  return absl::OkStatus();
}

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path, int64_t expected_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) return FileError(errno, "cannot create", path);
  return OutputFile(std::move(fd), path, expected_bytes);
}

OutputFile::OutputFile(OutputFile&& other) noexcept = default;

OutputFile::~OutputFile() {
  struct stat info;
  // Only what is a regular file by its own name goes: /dev/full, or a link to it, is not ours to delete.
  if (fd_.get() >= 0 && ::lstat(path_.c_str(), &info) == 0 && S_ISREG(info.st_mode)) ::unlink(path_.c_str());
}

absl::Status OutputFile::Failed(int error) const {
  const absl::Status status = FileError(error, "cannot write", path_);
  if (!absl::IsResourceExhausted(status)) return status;
  const int64_t missing = expected_bytes_ - bytes_, free = FreeBytes(FolderOf(path_));
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s (%d of %d bytes were written, %d are free: free at least %d more there or choose another folder)",
      std::string(status.message()), bytes_, expected_bytes_, free,
      std::max<int64_t>(missing - std::max<int64_t>(free, 0), 1)));
}

absl::Status OutputFile::Append(const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = ::write(fd_.get(), from, static_cast<size_t>(std::min(bytes, kChunkBytes)));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Failed(count < 0 ? errno : ENOSPC);
    hasher_.Update(from, static_cast<size_t>(count));
    from += count;
    bytes_ += count;
    bytes -= count;
  }
  return absl::OkStatus();
}

absl::StatusOr<WrittenFile> OutputFile::Finish() {
  // A failed fsync may have dropped the dirty pages: trying again would lie, so the file is abandoned.
  if (::fsync(fd_.get()) != 0 && errno != EINVAL) return Failed(errno);
  if (fd_.Close() != 0) {
    const absl::Status failed = Failed(errno);
    ::unlink(path_.c_str());
    return failed;
  }
  return WrittenFile{FileNameOf(path_), bytes_, hasher_.HexDigest()};
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  if (file.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d bytes, more than the %d that such a file may have", path, file.size(), max_bytes));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  RETURN_IF_ERROR(file.Read(0, file.size(), text.data()));
  return text;
}

absl::StatusOr<WrittenFile> WriteTextFile(const std::string& path, std::string_view text) {
  const int64_t bytes = static_cast<int64_t>(text.size());
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path, bytes));
  RETURN_IF_ERROR(file.Append(text.data(), bytes));
  return file.Finish();
}

absl::Status ReplaceTextFile(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  RETURN_IF_ERROR(WriteTextFile(temporary, text).status());
  RETURN_IF_ERROR(RenamePath(temporary, path));
  const size_t slash = path.rfind('/');
  return SyncDirectory(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

absl::StatusOr<WrittenFile> HashFile(const std::string& path) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  std::vector<char> chunk(static_cast<size_t>(std::min(file.size(), kChunkBytes)));
  Hasher hasher;
  for (int64_t offset = 0; offset < file.size(); offset += kChunkBytes) {
    const int64_t bytes = std::min(kChunkBytes, file.size() - offset);
    RETURN_IF_ERROR(file.Read(offset, bytes, chunk.data()));
    hasher.Update(chunk.data(), static_cast<size_t>(bytes));
  }
  return WrittenFile{FileNameOf(path), file.size(), hasher.HexDigest()};
}

absl::Status MakeDirectories(const std::string& path) {
  if (path.empty() || FileExists(path)) return absl::OkStatus();
  RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path).parent_path().string()));
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return FileError(errno, "cannot create folder", path);
  return SyncDirectory(FolderOf(path));
}

absl::Status SyncDirectory(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return FileError(errno, "cannot open folder", path);
  // Some network file systems cannot sync a folder and say EINVAL; their names are durable at once.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return FileError(errno, "cannot sync folder", path);
  return absl::OkStatus();
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? FileError(error.value(), "cannot delete", path) : absl::OkStatus();
}

absl::Status RenamePath(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : FileError(errno, "cannot rename to", to);
}

absl::Status ExchangePaths(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0
             ? absl::OkStatus()
             : FileError(errno, "cannot replace", b);
}

bool FileExists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return -1;
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

bool IsPlainFileName(std::string_view name) {
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

}  // namespace conclave::core
