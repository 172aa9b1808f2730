// SPDX-License-Identifier: Apache-2.0
// Writing safetensors: header first, so all offsets are computed before a byte is written; bf16 is converted through a
// small buffer on the way, so a save needs no second copy of the weights.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/number_formats.h"
#include "core/checkpoint/safetensors.h"

namespace conclave::core {
namespace {

constexpr int64_t kWriteElements = 65536;

int64_t Elements(const SafetensorsWriteEntry& tensor) {
  int64_t count = 1;
  for (int64_t size : tensor.shape) count *= size;
  return count;
}

int64_t StoredBytes(const SafetensorsWriteEntry& tensor) { return Elements(tensor) * SizeOf(tensor.stored); }

std::string JsonText(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The header for tensors in this order, padded with blanks so that the data begin at a multiple of 8.
std::string HeaderText(const std::vector<const SafetensorsWriteEntry*>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::string> all = metadata;
  all.emplace("format", "pt");  // Hugging Face loaders refuse a file without it
  std::vector<std::string> pairs;
  for (const auto& [key, value] : all) pairs.push_back(absl::StrCat(JsonText(key), ":", JsonText(value)));
  std::vector<std::string> parts = {absl::StrCat("\"__metadata__\":{", absl::StrJoin(pairs, ","), "}")};
  int64_t offset = 0;
  for (const SafetensorsWriteEntry* tensor : tensors) {
    const int64_t end = offset + StoredBytes(*tensor);
    parts.push_back(absl::StrFormat("%s:{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                                    JsonText(tensor->name), StoredTypeName(tensor->stored),
                                    absl::StrJoin(tensor->shape, ","), offset, end));
    offset = end;
  }
  std::string header = absl::StrCat("{", absl::StrJoin(parts, ","), "}");
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

absl::Status AppendTensor(const SafetensorsWriteEntry& tensor, OutputFile& file) {
  if (tensor.source == tensor.stored) return file.Append(tensor.data, StoredBytes(tensor));
  CHECK(tensor.source == DType::kF32 && tensor.stored == DType::kBf16);
  const float* values = static_cast<const float*>(tensor.data);
  const int64_t count = Elements(tensor);
  std::vector<Bf16> chunk(static_cast<size_t>(std::min(count, kWriteElements)));
  for (int64_t done = 0; done < count; done += kWriteElements) {
    const int64_t now = std::min(kWriteElements, count - done);
    std::transform(values + done, values + done + now, chunk.begin(), ToBf16);
    RETURN_IF_ERROR(file.Append(chunk.data(), now * SizeOf(DType::kBf16)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WrittenFile> WriteSafetensors(const std::string& path, std::span<const SafetensorsWriteEntry> tensors,
                                             const std::map<std::string, std::string>& metadata) {
  std::vector<const SafetensorsWriteEntry*> ordered;
  int64_t data_bytes = 0;
  for (const SafetensorsWriteEntry& tensor : tensors) {
    CHECK(tensor.data != nullptr || Elements(tensor) == 0);
    ordered.push_back(&tensor);
    data_bytes += StoredBytes(tensor);
  }
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  const std::string header = HeaderText(ordered, metadata);
  // What our own reader would refuse (a name given twice, an unprintable name) is never written.
  if (const auto parsed = SafetensorsFile::ParseHeader(header, data_bytes, nullptr); !parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": ", parsed.status().message()));
  }
  const uint64_t length = header.size();
  ASSIGN_OR_RETURN(OutputFile file,
                   OutputFile::Create(path, static_cast<int64_t>(sizeof length + length) + data_bytes));
  RETURN_IF_ERROR(file.Append(&length, sizeof length));
  RETURN_IF_ERROR(file.Append(header.data(), static_cast<int64_t>(length)));
  for (const SafetensorsWriteEntry* tensor : ordered) RETURN_IF_ERROR(AppendTensor(*tensor, file));
  return file.Finish();
}

}  // namespace conclave::core
