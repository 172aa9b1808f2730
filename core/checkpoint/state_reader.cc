// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/state_reader.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/box_cover.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/number_formats.h"

namespace conclave::core {
namespace {

// Index of the element at `position` (global) within `whole`, row-major.
int64_t IndexWithin(const Box& whole, const std::array<int64_t, 4>& position) {
  int64_t index = 0;
  for (int dim = 0; dim < whole.rank; ++dim) index = index * whole.sizes[dim] + position[dim] - whole.offsets[dim];
  return index;
}

}  // namespace

absl::StatusOr<StateReader> StateReader::Open(const std::string& dir) {
  ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(dir));
  StateReader reader;
  reader.dir_ = dir;
  reader.manifest_ = std::make_unique<Manifest>(std::move(manifest));
  for (const StoredBox& box : reader.manifest_->state) {
    reader.state_names_.insert(box.name);
    reader.boxes_[box.name].push_back(&box);
  }
  for (const StoredBox& box : reader.manifest_->weights) {
    StoredBoxes& known = reader.boxes_[box.name];
    if (known.empty()) known.push_back(&box);
  }
  return reader;
}

std::vector<StateTensor> StateReader::Tensors() const {
  std::vector<StateTensor> tensors;
  for (const auto& [name, boxes] : boxes_) {
    const StoredBox& first = *boxes.front();
    tensors.push_back({.name = first.name, .shape = first.shape, .box = WholeBox(first.shape), .dtype = first.dtype});
  }
  return tensors;
}

absl::StatusOr<const SafetensorsFile*> StateReader::File(const std::string& name) {
  if (const auto open = files_.find(name); open != files_.end()) return &open->second;
  const auto listed = std::find_if(manifest_->files.begin(), manifest_->files.end(),
                                   [&name](const WrittenFile& file) { return file.name == name; });
  CHECK(listed != manifest_->files.end());  // a manifest's boxes are in its files
  RETURN_IF_ERROR(CheckFileSize(dir_, *listed));
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(absl::StrCat(dir_, "/", name)));
  return &files_.emplace(name, std::move(file)).first->second;
}

absl::Status StateReader::CopyPart(const StoredBox& stored, const Box& part, const StateTensor& tensor) {
  ASSIGN_OR_RETURN(const SafetensorsFile* file, File(stored.file));
  const SafetensorsEntry* entry = file->Find(stored.key);
  const Box& source = stored.box;
  const std::vector<int64_t> sizes(source.sizes.begin(), source.sizes.begin() + source.rank);
  if (entry == nullptr || entry->dtype_name != StoredTypeName(stored.dtype) || entry->shape != sizes) {
    return absl::DataLossError(
        absl::StrFormat("%s: tensor %s is not what the manifest says", file->path(), Quoted(stored.key)));
  }
  // A run is contiguous in the file and in memory: it grows over the dims that the part fills in both boxes.
  int outer = part.rank;
  int64_t run = 1;
  bool whole = true;
  while (outer > 0 && whole) {
    --outer;
    run *= part.sizes[outer];
    whole = part.sizes[outer] == source.sizes[outer] && part.sizes[outer] == tensor.box.sizes[outer];
  }
  const int64_t width = SizeOf(tensor.dtype), runs = part.Elements() / run;
  std::array<int64_t, 4> position = part.offsets;
  for (int64_t i = 0; i < runs; ++i) {
    char* to = static_cast<char*>(tensor.data) + IndexWithin(tensor.box, position) * width;
    RETURN_IF_ERROR(file->ReadBytes(*entry, IndexWithin(source, position) * width, run * width, to));
    for (int dim = outer; dim-- > 0;) {
      if (++position[dim] < part.offsets[dim] + part.sizes[dim]) break;
      position[dim] = part.offsets[dim];
    }
  }
  return absl::OkStatus();
}

absl::Status StateReader::Read(const StateTensor& tensor) {
  const auto found = boxes_.find(tensor.name);
  if (found == boxes_.end()) {
    return absl::NotFoundError(absl::StrFormat("checkpoint %s has no tensor %s", dir_, Quoted(tensor.name)));
  }
  const StoredBox& first = *found->second.front();
  if (first.shape != tensor.shape || first.dtype != tensor.dtype) {
    return absl::InvalidArgumentError(absl::StrFormat("checkpoint %s: tensor %s is stored as %s, this run needs %s",
                                                      dir_, Quoted(tensor.name), TypeText(first.dtype, first.shape),
                                                      TypeText(tensor.dtype, tensor.shape)));
  }
  CHECK_EQ(tensor.box.rank, tensor.shape.size());
  std::vector<Box> missing;
  if (tensor.box.Elements() > 0) missing.push_back(tensor.box);
  for (const StoredBox* stored : found->second) {
    std::vector<Box> still_missing;
    for (const Box& box : missing) {
      const std::optional<Box> part = Intersect(box, stored->box);
      if (!part) {
        still_missing.push_back(box);
        continue;
      }
      if (const absl::Status copied = CopyPart(*stored, *part, tensor); !copied.ok()) {
        return absl::Status(copied.code(),
                            absl::StrFormat("checkpoint %s: tensor %s %s cannot be read: %s", dir_, Quoted(tensor.name),
                                            BoxText(*part), std::string(copied.message())));
      }
      AppendDifference(box, *part, still_missing);
    }
    missing = std::move(still_missing);
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrFormat("checkpoint %s: tensor %s lacks %s of its %s", dir_, Quoted(tensor.name),
                                             BoxText(missing.front()), TypeText(first.dtype, tensor.shape)));
}

}  // namespace conclave::core
