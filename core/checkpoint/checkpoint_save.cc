// SPDX-License-Identifier: Apache-2.0
// Saving a checkpoint: all parts go into one temporary folder, the manifest last; one rename publishes it. Whatever
// fails, the temporary folder goes and the checkpoints before stay as they were.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/merge_parts.h"
#include "core/checkpoint/weight_index.h"

namespace conclave::core {
namespace {

// Turns a folder that holds all parts into a checkpoint: files under their last names, then texts and manifest.
class FolderFinisher {
 public:
  FolderFinisher(const SaveRequest& request, std::string dir, MergedParts parts)
      : request_(request), dir_(std::move(dir)), parts_(std::move(parts)) {}

  const Manifest& manifest() const { return manifest_; }

  absl::Status Finish() {
    RETURN_IF_ERROR(AddWeights());
    RETURN_IF_ERROR(AddFiles(parts_.state_files));
    manifest_.state = std::move(parts_.state);
    for (const auto& [name, text] : request_.files) RETURN_IF_ERROR(WriteText(name, text));
    manifest_.meta = request_.meta;
    RETURN_IF_ERROR(WriteManifest(dir_, manifest_));
    RETURN_IF_ERROR(SyncDirectory(absl::StrCat(dir_, "/", kStateFolder)));
    return SyncDirectory(dir_);
  }

 private:
  absl::Status AddWeights() {
    RETURN_IF_ERROR(AddFiles(parts_.weight_files));
    if (parts_.weight_files.empty()) {  // a model folder always has a weights file
      RETURN_IF_ERROR(List(kSingleWeightsFile, WriteSafetensors(absl::StrCat(dir_, "/", kSingleWeightsFile), {}, {})));
    }
    std::map<std::string, std::string> weight_map;
    int64_t bytes = 0;
    for (const StoredBox& weight : parts_.weights) {
      weight_map.emplace(weight.key, weight.file);
      bytes += weight.box.Elements() * SizeOf(weight.dtype);
    }
    manifest_.weights = std::move(parts_.weights);
    return WriteText(kWeightsIndexFile, WeightIndexJson(weight_map, bytes));
  }

  // Others wrote them, maybe on other machines: that the bytes have come is checked here, that they are right when the
  // checkpoint is verified.
  absl::Status AddFiles(const std::vector<FileOfPart>& files) {
    for (const auto& [part_name, file] : files) {
      RETURN_IF_ERROR(CheckFileSize(dir_, {.name = part_name, .bytes = file.bytes, .checksum = {}}));
      RETURN_IF_ERROR(RenamePath(absl::StrCat(dir_, "/", part_name), absl::StrCat(dir_, "/", file.name)));
      manifest_.files.push_back(file);
    }
    return absl::OkStatus();
  }

  absl::Status WriteText(const std::string& name, const std::string& text) {
    CHECK(IsPlainFileName(name) && name != kManifestFile);
    return List(name, WriteTextFile(absl::StrCat(dir_, "/", name), text));
  }

  // Enters a written file into the manifest, which refuses a name that comes twice.
  absl::Status List(const std::string& name, const absl::StatusOr<WrittenFile>& written) {
    RETURN_IF_ERROR(written.status());
    manifest_.files.push_back({.name = name, .bytes = written->bytes, .checksum = written->checksum});
    return absl::OkStatus();
  }

  const SaveRequest& request_;
  std::string dir_;
  MergedParts parts_;
  Manifest manifest_;
};

bool IsSoundAndHolds(const std::string& path, const Manifest& manifest) {
  const auto existing = ReadManifest(path);
  return existing.ok() && SameState(*existing, manifest) && VerifyCheckpoint(path).ok();
}

// Gives the finished folder its name. A checkpoint of that step that is already there stays if it holds the same state
// and is sound; otherwise the two change places at one instant, and the old one goes with the temporary name.
absl::Status Publish(const std::string& temporary, const std::string& path, const Manifest& manifest) {
  if (!FileExists(path)) return RenamePath(temporary, path);
  if (IsSoundAndHolds(path, manifest)) return absl::OkStatus();
  if (ExchangePaths(temporary, path).ok()) return absl::OkStatus();
  // A file system without exchange: the step is absent for a moment, the checkpoints before it are not.
  RETURN_IF_ERROR(RemoveTree(path));
  return RenamePath(temporary, path);
}

absl::Status MergeAndPublish(const SaveRequest& request, const std::string& folder,
                             const std::vector<Fragment>& parts) {
  ASSIGN_OR_RETURN(MergedParts merged, MergeParts(parts));
  FolderFinisher finisher(request, folder, std::move(merged));
  RETURN_IF_ERROR(finisher.Finish());
  const std::string path = StepPath(request.parent, request.meta.step);
  RETURN_IF_ERROR(Publish(folder, path, finisher.manifest()));
  const absl::Status synced = SyncDirectory(request.parent);
  if (!synced.ok()) RemoveTree(path).IgnoreError();  // its name may not survive a power cut: do not count on it
  return synced;
}

absl::Status MakeTemporaryFolder(const std::string& parent, const std::string& folder) {
  RETURN_IF_ERROR(MakeDirectories(parent));
  RemoveLeftovers(parent).IgnoreError();  // they take space, but hinder nobody
  RETURN_IF_ERROR(RemoveTree(folder));
  return MakeDirectories(absl::StrCat(folder, "/", kStateFolder));
}

constexpr int64_t kOtherBytes = int64_t{1} << 20;  // headers, index, manifest, tokenizer

// `tensor_bytes`: of the whole checkpoint, if that is known.
std::string Advice(const std::string& parent, std::optional<int64_t> tensor_bytes, const absl::Status& status) {
  if (absl::IsInternal(status)) return "this is a fault of the program: please report it";
  if (absl::IsNotFound(status)) return absl::StrCat("check that ", parent, " is one folder that all ranks can see");
  if (!absl::IsResourceExhausted(status)) return absl::StrCat("check that ", parent, " can be written");
  const int64_t free = FreeBytes(parent);
  if (!tensor_bytes) return absl::StrFormat("free space or files there: %s has %d bytes free", parent, free);
  const int64_t needed = *tensor_bytes + kOtherBytes;
  return absl::StrFormat("free %d bytes: the checkpoint takes about %d and %s has %d free",
                         std::max<int64_t>(needed - free, 1), needed, parent, free);
}

absl::Status NotWritten(const std::string& parent, int64_t step, std::optional<int64_t> tensor_bytes,
                        const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrFormat("the checkpoint of step %d was not written; training can go on. %s. %s", step,
                                      std::string(status.message()), Advice(parent, tensor_bytes, status)));
}

}  // namespace

absl::StatusOr<std::string> PrepareSave(const std::string& parent, int64_t step) {
  std::string folder = TemporaryPath(parent, step);
  const absl::Status made = MakeTemporaryFolder(parent, folder);
  if (made.ok()) return folder;
  AbandonSave(folder);
  return NotWritten(parent, step, std::nullopt, made);
}

absl::StatusOr<std::string> PublishSave(const SaveRequest& request, const std::string& folder,
                                        std::span<const std::string> fragments) {
  const auto parts = ReadFragments(fragments, request.meta.step);
  const absl::Status status = parts.ok() ? MergeAndPublish(request, folder, *parts) : parts.status();
  AbandonSave(folder);  // after the publishing rename there is nothing left to delete
  if (status.ok()) return StepPath(request.parent, request.meta.step);
  return NotWritten(request.parent, request.meta.step, parts.ok() ? std::optional(TensorBytes(*parts)) : std::nullopt,
                    status);
}

void AbandonSave(const std::string& folder) {
  CHECK(IsTemporaryPath(folder));
  RemoveTree(folder).IgnoreError();
}

absl::StatusOr<std::string> SaveCheckpoint(const SaveRequest& request) {
  ASSIGN_OR_RETURN(const std::string folder, PrepareSave(request.parent, request.meta.step));
  const std::string fragment = WritePart(request, folder, {.index = 0, .count = 1});
  return PublishSave(request, folder, {&fragment, 1});
}

}  // namespace conclave::core
