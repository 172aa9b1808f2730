// SPDX-License-Identifier: Apache-2.0
// manifest.pb in memory, and the fragments from which a save by several ranks makes one. Whatever is read here is
// consistent in itself: names are safe, boxes lie inside their tensors, every box is in a listed file. Whether the
// files match it is VerifyCheckpoint's question. Protobuf is known to manifest.cc alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file_io.h"
#include "core/tensor/box.h"

namespace conclave::core {

inline constexpr char kManifestFile[] = "manifest.pb";

// One rectangle of a global tensor and where its bytes are.
struct StoredBox {
  std::string name;            // global
  DType dtype = DType::kF32;   // as stored
  std::vector<int64_t> shape;  // of the global tensor
  Box box;
  std::string file;  // "model.safetensors" or "optimizer/state-00001-of-00002.safetensors"
  std::string key;   // the tensor's name in that file
};

struct Manifest {
  CheckpointMeta meta;
  std::vector<WrittenFile> files;  // names relative to the checkpoint; all but the manifest itself
  std::vector<StoredBox> weights;  // whole tensors under their Hugging Face names
  std::vector<StoredBox> state;    // masters, moments, averages, biases
};

absl::StatusOr<Manifest> ReadManifest(const std::string& dir);
absl::Status WriteManifest(const std::string& dir, const Manifest& manifest);

// Equal in everything but history and program version.
bool SameState(Manifest a, Manifest b);

// Whether the file is there with its size. Reads no content.
absl::Status CheckFileSize(const std::string& dir, const WrittenFile& listed);

// What one part of a save has written, or why it has not.
struct Fragment {
  Part part;
  int64_t tensor_bytes = 0;  // of all tensors of the part, written or not
  absl::Status status;       // of the writing; where it failed, `written` holds only the step
  Manifest written;          // its files under PartFileName, its boxes, and of the meta the step
};

std::string SerializeFragment(const Fragment& fragment);
absl::StatusOr<Fragment> ParseFragment(const std::string& bytes);

Box WholeBox(const std::vector<int64_t>& shape);
std::string BoxText(const Box& box);                                   // "[0:4, 8:16]"
std::string TypeText(DType dtype, const std::vector<int64_t>& shape);  // "F32 [4, 16]"
// "tensor 'x' [0:4, 8:16] and 11 more", of those in the file; "" if it holds none.
std::string TensorsInFile(const Manifest& manifest, std::string_view file);

}  // namespace conclave::core
