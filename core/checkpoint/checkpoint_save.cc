// SPDX-License-Identifier: Apache-2.0
// Saving a checkpoint: everything goes into a temporary folder, each file durable before the next, the manifest last;
// one rename publishes it. Whatever fails, the temporary folder goes and the checkpoints before stay as they were.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
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
#include "core/checkpoint/weight_index.h"

namespace conclave::core {
namespace {

constexpr char kStateFolder[] = "optimizer";

struct Item {
  SafetensorsWriteEntry entry;
  StoredBox stored;  // file: when it is written
  int64_t bytes = 0;
};
using Shard = std::vector<Item>;

Item MakeItem(const StateTensor& tensor, DType stored, const std::string& key) {
  Item item;
  item.entry = {.name = key,
                .shape = {tensor.box.sizes.begin(), tensor.box.sizes.begin() + tensor.box.rank},
                .data = tensor.data,
                .source = tensor.dtype,
                .stored = stored};
  item.stored = {
      .name = tensor.name, .dtype = stored, .shape = tensor.shape, .box = tensor.box, .file = {}, .key = key};
  item.bytes = tensor.box.Elements() * SizeOf(stored);
  return item;
}

std::vector<Item> WeightItems(const SaveRequest& request) {
  std::vector<Item> items;
  for (const StateTensor& tensor : request.weights) {
    CHECK(tensor.box == WholeBox(tensor.shape));
    const auto kept = std::find(request.keep_f32.begin(), request.keep_f32.end(), tensor.name);
    items.push_back(
        MakeItem(tensor, kept == request.keep_f32.end() ? request.weights_dtype : tensor.dtype, tensor.name));
  }
  return items;
}

std::vector<Item> StateItems(const SaveRequest& request) {
  std::vector<Item> items;
  for (const StateTensor& tensor : request.optimizer) {
    const bool whole = tensor.box == WholeBox(tensor.shape);
    items.push_back(
        MakeItem(tensor, tensor.dtype, whole ? tensor.name : absl::StrCat(tensor.name, " ", BoxText(tensor.box))));
  }
  return items;
}

// Cuts items, by ascending key, into shards of at most `max_bytes`; a larger tensor has a shard of its own.
std::vector<Shard> CutIntoShards(std::vector<Item> items, int64_t max_bytes) {
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.entry.name < b.entry.name; });
  std::vector<Shard> shards;
  int64_t bytes = 0;
  for (Item& item : items) {
    if (shards.empty() || bytes + item.bytes > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += item.bytes;
    shards.back().push_back(std::move(item));
  }
  return shards;
}

std::string ShardName(std::string_view stem, size_t shard, size_t count) {
  return absl::StrFormat("%s-%05d-of-%05d.safetensors", stem, shard + 1, count);
}

int64_t TotalBytes(const std::vector<Shard>& shards) {
  int64_t bytes = 0;
  for (const Shard& shard : shards) {
    for (const Item& item : shard) bytes += item.bytes;
  }
  return bytes;
}

// Writes the content of one checkpoint into an empty folder and collects its manifest.
class FolderWriter {
 public:
  FolderWriter(const SaveRequest& request, std::string dir)
      : request_(request),
        dir_(std::move(dir)),
        weights_(CutIntoShards(WeightItems(request), request.max_file_bytes)),
        state_(CutIntoShards(StateItems(request), request.max_file_bytes)) {}

  int64_t tensor_bytes() const { return TotalBytes(weights_) + TotalBytes(state_); }
  const Manifest& manifest() const { return manifest_; }

  absl::Status Write() {
    RETURN_IF_ERROR(MakeDirectories(absl::StrCat(dir_, "/", kStateFolder)));
    RETURN_IF_ERROR(WriteWeights());
    for (size_t i = 0; i < state_.size(); ++i) {
      const std::string name = ShardName(absl::StrCat(kStateFolder, "/state"), i, state_.size());
      RETURN_IF_ERROR(WriteShard(name, state_[i], manifest_.state));
    }
    for (const auto& [name, text] : request_.files) RETURN_IF_ERROR(WriteText(name, text));
    manifest_.meta = request_.meta;
    RETURN_IF_ERROR(WriteManifest(dir_, manifest_));
    RETURN_IF_ERROR(SyncDirectory(absl::StrCat(dir_, "/", kStateFolder)));
    return SyncDirectory(dir_);
  }

 private:
  absl::Status WriteWeights() {
    if (weights_.empty()) weights_.emplace_back();  // a model folder always has a weights file
    std::map<std::string, std::string> weight_map;
    for (size_t i = 0; i < weights_.size(); ++i) {
      const std::string name = weights_.size() == 1 ? kSingleWeightsFile : ShardName("model", i, weights_.size());
      RETURN_IF_ERROR(WriteShard(name, weights_[i], manifest_.weights));
      for (const Item& item : weights_[i]) weight_map.emplace(item.entry.name, name);
    }
    return WriteText(kWeightsIndexFile, WeightIndexJson(weight_map, TotalBytes(weights_)));
  }

  absl::Status WriteShard(const std::string& name, const Shard& shard, std::vector<StoredBox>& boxes) {
    std::vector<SafetensorsWriteEntry> entries;
    for (const Item& item : shard) {
      entries.push_back(item.entry);
      boxes.push_back(item.stored);
      boxes.back().file = name;
    }
    return List(name, WriteSafetensors(absl::StrCat(dir_, "/", name), entries, {}));
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
  std::vector<Shard> weights_, state_;
  Manifest manifest_;
};

// Deletes a folder when the save ends, however it ends; after the publishing rename there is nothing left to delete.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { RemoveTree(path_).IgnoreError(); }

 private:
  std::string path_;
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

absl::Status WriteAndPublish(const SaveRequest& request, const std::string& temporary, FolderWriter& writer) {
  const std::string path = StepPath(request.parent, request.meta.step);
  RETURN_IF_ERROR(MakeDirectories(request.parent));
  RETURN_IF_ERROR(RemoveTree(temporary));
  RETURN_IF_ERROR(writer.Write());
  RETURN_IF_ERROR(Publish(temporary, path, writer.manifest()));
  const absl::Status synced = SyncDirectory(request.parent);
  if (!synced.ok()) RemoveTree(path).IgnoreError();  // its name may not survive a power cut: do not count on it
  return synced;
}

std::string Advice(const SaveRequest& request, int64_t needed, const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return absl::StrCat("check that ", request.parent, " can be written");
  const int64_t free = FreeBytes(request.parent);
  return absl::StrFormat("free %d bytes: the checkpoint takes about %d and %s has %d free",
                         std::max<int64_t>(needed - free, 1), needed, request.parent, free);
}

}  // namespace

absl::StatusOr<std::string> SaveCheckpoint(const SaveRequest& request) {
  const std::string temporary = TemporaryPath(request.parent, request.meta.step);
  FolderWriter writer(request, temporary);
  absl::Status status;
  {
    const TemporaryFolder cleanup(temporary);
    status = WriteAndPublish(request, temporary, writer);
  }
  if (status.ok()) return StepPath(request.parent, request.meta.step);
  constexpr int64_t kOtherBytes = int64_t{1} << 20;  // headers, index, manifest, tokenizer
  return absl::Status(
      status.code(),
      absl::StrFormat("the checkpoint of step %d was not written; training can go on. %s. %s", request.meta.step,
                      std::string(status.message()), Advice(request, writer.tensor_bytes() + kOtherBytes, status)));
}

}  // namespace conclave::core
