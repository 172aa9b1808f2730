// SPDX-License-Identifier: Apache-2.0
// The safetensors format: u64 header length, JSON header, packed tensor bytes. The reader trusts nothing: every length,
// offset and shape is checked against the file before a byte is used, and tensors are read with pread, never mapped.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "core/tensor/dtype.h"

namespace conclave::core {

inline constexpr int64_t kMaxSafetensorsHeaderBytes = int64_t{64} << 20;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;  // F32, BF16, F8_E4M3, I32, I64, F64, U8; kU8 (bytes) for every other dtype_name
  std::string dtype_name;     // as in the file
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, relative to the data section
};

class SafetensorsFile {
 public:
  // Reads and checks the header. Errors name the path, the tensor and the rule that is broken.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);
  // Checks a header alone (for fuzzing and tests): `header` is the JSON, `data_bytes` what follows it in the file.
  static absl::StatusOr<std::vector<SafetensorsEntry>> ParseHeader(std::string_view header, int64_t data_bytes,
                                                                   std::map<std::string, std::string>* metadata);

  const std::string& path() const;
  const std::vector<SafetensorsEntry>& entries() const;       // by ascending offset
  const SafetensorsEntry* Find(std::string_view name) const;  // nullptr if absent
  const std::map<std::string, std::string>& metadata() const;

  // Reads `bytes` bytes of a tensor from `offset` (bytes within it).
  absl::Status ReadBytes(const SafetensorsEntry& entry, int64_t offset, int64_t bytes, void* out) const;
  // Reads elements [first, first + count) as f32 (F32, BF16, F16, F64, I32, I64 are converted; F8 without its scale).
  absl::Status ReadFloats(const SafetensorsEntry& entry, int64_t first, int64_t count, float* out) const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // value semantics; closes the file with the last copy
};

// One tensor to write: `data` in memory has type `source` (f32, i32, i64, f64) and is stored as `stored`
// (equal, or bf16 from f32, nearest-even).
struct SafetensorsWriteEntry {
  std::string name;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  DType source = DType::kF32;
  DType stored = DType::kF32;
};

// Writes and fsyncs a file; header padded to a multiple of 8, tensors ordered by name, metadata format = pt added. On
// an error (full disk, ...) the partial file is removed and the status says which path and why.
absl::StatusOr<WrittenFile> WriteSafetensors(const std::string& path, std::span<const SafetensorsWriteEntry> tensors,
                                             const std::map<std::string, std::string>& metadata);

}  // namespace conclave::core
