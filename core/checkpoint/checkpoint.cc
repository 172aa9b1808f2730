// SPDX-License-Identifier: Apache-2.0
// Reading checkpoints: which one to trust, what is in it, and its hash. Saving is in checkpoint_save.cc.
#include "core/checkpoint/checkpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/number_formats.h"
#include "core/checkpoint/state_reader.h"
#include "core/checkpoint/weight_index.h"

namespace conclave::core {
namespace {

constexpr int64_t kSlabBytes = int64_t{8} << 20;  // of a tensor that is hashed, at a time

// Lengths go first, so that no two lists of tensors give the same bytes.
class StateHasher {
 public:
  void Add(uint64_t number) { hasher_.Update(&number, sizeof number); }
  void Add(std::string_view text) {
    Add(static_cast<uint64_t>(text.size()));
    hasher_.Update(text.data(), text.size());
  }
  void AddHead(std::string_view name, std::string_view dtype, const std::vector<int64_t>& shape) {
    Add(name);
    Add(dtype);
    Add(static_cast<uint64_t>(shape.size()));
    for (int64_t size : shape) Add(static_cast<uint64_t>(size));
  }
  void AddBytes(const std::vector<char>& bytes, int64_t count) {
    hasher_.Update(bytes.data(), static_cast<size_t>(count));
  }
  std::string HexDigest() const { return hasher_.HexDigest(); }

 private:
  Hasher hasher_;
};

// Adds the part's elements in row-major order. A large part is halved along its first dim that can be cut, which keeps
// the order and bounds memory whatever the shape.
absl::Status AddPart(StateTensor part, StateReader& reader, std::vector<char>& slab, StateHasher& hasher) {
  const int64_t bytes = part.box.Elements() * SizeOf(part.dtype);
  if (bytes <= kSlabBytes) {
    part.data = slab.data();
    RETURN_IF_ERROR(reader.Read(part));
    hasher.AddBytes(slab, bytes);
    return absl::OkStatus();
  }
  const auto dim = std::find_if(part.box.sizes.begin(), part.box.sizes.end(), [](int64_t size) { return size > 1; }) -
                   part.box.sizes.begin();
  const int64_t size = part.box.sizes[dim], half = size / 2;
  part.box.sizes[dim] = half;
  RETURN_IF_ERROR(AddPart(part, reader, slab, hasher));
  part.box.offsets[dim] += half;
  part.box.sizes[dim] = size - half;
  return AddPart(std::move(part), reader, slab, hasher);
}

absl::StatusOr<std::string> HashWeights(const std::string& dir) {
  ASSIGN_OR_RETURN(const WeightIndex index, OpenWeights(dir));
  StateHasher hasher;
  std::vector<char> slab(static_cast<size_t>(kSlabBytes));
  for (const auto& [name, place] : index.tensors) {
    hasher.AddHead(name, place.entry->dtype_name, place.entry->shape);
    const int64_t bytes = place.entry->end - place.entry->begin;
    for (int64_t offset = 0; offset < bytes; offset += kSlabBytes) {
      const int64_t count = std::min(kSlabBytes, bytes - offset);
      const SafetensorsFile& file = index.files[static_cast<size_t>(place.file)];
      RETURN_IF_ERROR(file.ReadBytes(*place.entry, offset, count, slab.data()));
      hasher.AddBytes(slab, count);
    }
  }
  return hasher.HexDigest();
}

absl::Status CheckFileContent(const std::string& dir, const WrittenFile& listed) {
  const std::string path = absl::StrCat(dir, "/", listed.name);
  ASSIGN_OR_RETURN(const WrittenFile found, HashFile(path));
  if (found.checksum == listed.checksum) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path, " is damaged, or of another checkpoint: its checksum is not the manifest's"));
}

// The error of a file with the tensors that are lost with it.
absl::Status WithTensors(const absl::Status& status, const Manifest& manifest, const std::string& file) {
  const std::string tensors = TensorsInFile(manifest, file);
  if (tensors.empty()) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), " (it holds ", tensors, ")"));
}

// As VerifyCheckpoint; the folder must also hold the step of its name.
absl::Status VerifyStep(const std::string& dir, int64_t step) {
  RETURN_IF_ERROR(VerifyCheckpoint(dir));
  ASSIGN_OR_RETURN(const CheckpointMeta meta, ReadCheckpointMeta(dir));
  if (meta.step == step) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s holds step %d", dir, meta.step));
}

}  // namespace

absl::Status VerifyCheckpoint(const std::string& dir, Part part) {
  CHECK(part.index >= 0 && part.index < part.count);
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(dir));
  // Sizes first: they cost nothing and show most of what can go wrong.
  for (const auto check : {CheckFileSize, CheckFileContent}) {
    for (size_t i = static_cast<size_t>(part.index); i < manifest.files.size(); i += static_cast<size_t>(part.count)) {
      const absl::Status status = check(dir, manifest.files[i]);
      if (!status.ok()) return WithTensors(status, manifest, manifest.files[i].name);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> FindLatestCheckpoint(const std::string& parent,
                                                                std::vector<std::string>* warnings) {
  ASSIGN_OR_RETURN(const auto steps, ListSteps(parent));
  for (const auto& [step, path] : steps) {
    const absl::Status verified = VerifyStep(path, step);
    if (verified.ok()) return path;
    if (warnings != nullptr) warnings->push_back(absl::StrCat("skipped checkpoint ", path, ": ", verified.message()));
  }
  return std::nullopt;
}

absl::Status RemoveOldCheckpoints(const std::string& parent, int64_t keep, int64_t pinned_step) {
  CHECK_GE(keep, 1);
  ASSIGN_OR_RETURN(const auto steps, ListSteps(parent));
  int64_t kept = 0;
  for (const auto& [step, path] : steps) {
    if (kept < keep) {
      // Only those that verify count: a damaged newer one must not cost us the last good one.
      kept += VerifyStep(path, step).ok() ? 1 : 0;
      continue;
    }
    if (step == pinned_step) continue;
    // Renamed first: what a crash leaves of a half-deleted checkpoint is not named step_N.
    const std::string doomed = TemporaryPath(parent, step);
    RETURN_IF_ERROR(RemoveTree(doomed));
    RETURN_IF_ERROR(RenamePath(path, doomed));
    RETURN_IF_ERROR(RemoveTree(doomed));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointMeta> ReadCheckpointMeta(const std::string& dir) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(dir));
  return manifest.meta;
}

absl::Status RestoreState(const std::string& dir, const std::vector<StateTensor>& tensors) {
  ASSIGN_OR_RETURN(StateReader reader, StateReader::Open(dir));
  for (const StateTensor& tensor : tensors) RETURN_IF_ERROR(reader.Read(tensor));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StateTensor>> ListState(const std::string& dir) {
  ASSIGN_OR_RETURN(const StateReader reader, StateReader::Open(dir));
  return reader.Tensors();
}

absl::StatusOr<std::string> StateHash(const std::string& dir) {
  if (!FileExists(absl::StrCat(dir, "/", kManifestFile))) return HashWeights(dir);
  ASSIGN_OR_RETURN(StateReader reader, StateReader::Open(dir));
  const Manifest& manifest = reader.manifest();
  StateHasher hasher;
  hasher.Add(static_cast<uint64_t>(manifest.meta.step));
  hasher.Add(static_cast<uint64_t>(manifest.meta.data_position));
  hasher.Add(manifest.meta.seed);
  std::vector<char> slab(static_cast<size_t>(kSlabBytes));
  for (const StateTensor& tensor : reader.Tensors()) {
    // Weights follow from the masters; their stored type is a matter of taste. Without state they are all there is.
    if (!manifest.state.empty() && !reader.IsState(tensor.name)) continue;
    hasher.AddHead(tensor.name, StoredTypeName(tensor.dtype), tensor.shape);
    RETURN_IF_ERROR(AddPart(tensor, reader, slab, hasher));
  }
  return hasher.HexDigest();
}

}  // namespace conclave::core
