// SPDX-License-Identifier: Apache-2.0
// The lock file lies inside of the folder and moves with it, so a lock says nothing until the file is seen to be still
// at its path.
#include "data/build_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr char kLockName[] = "/.lock", kEnding[] = ".tmp";

bool IsStillThere(int file, const std::string& path) {
  struct stat held, there;
  return ::fstat(file, &held) == 0 && ::stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

// Nothing: another process holds it, or has just published or removed it.
absl::StatusOr<std::optional<core::FileDescriptor>> TryLock(const std::string& folder) {
  const std::string path = folder + kLockName;
  core::FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock.get() < 0 && errno == ENOENT) return std::nullopt;
  if (lock.get() < 0) return core::FileError(errno, "cannot create", path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return std::nullopt;
    return core::FileError(errno, "cannot lock", path);
  }
  if (!IsStillThere(lock.get(), path)) return std::nullopt;
  return lock;
}

}  // namespace

absl::StatusOr<BuildFolder> BuildFolder::Acquire(const std::string& final_path, const LoadProgress& waiting,
                                                 const LoadOptions& options) {
  const std::string path = final_path + kEnding;
  while (true) {
    RETURN_IF_ERROR(core::MakeDirectories(path));
    ASSIGN_OR_RETURN(std::optional<core::FileDescriptor> lock, TryLock(path));
    if (lock) return BuildFolder(path, final_path, *std::move(lock));
    RETURN_IF_ERROR(Report(options, waiting));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

BuildFolder::~BuildFolder() {
  if (lock_.get() >= 0) core::RemoveTree(path_).IgnoreError();
}

absl::Status BuildFolder::Publish() {
  RETURN_IF_ERROR(core::SyncDirectory(path_));
  RETURN_IF_ERROR(core::RemoveTree(final_path_));
  RETURN_IF_ERROR(core::RenamePath(path_, final_path_));
  ::unlink((final_path_ + kLockName).c_str());
  lock_.Close();
  return core::SyncDirectory(std::filesystem::path(final_path_).parent_path().string());
}

void BuildFolder::RemoveAbandoned(const std::string& parent) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
    const std::string path = entry.path().string();
    if (!path.ends_with(kEnding) || !core::FileExists(path + kLockName)) continue;
    if (const auto lock = TryLock(path); lock.ok() && lock->has_value()) core::RemoveTree(path).IgnoreError();
  }
}

}  // namespace conclave::data
