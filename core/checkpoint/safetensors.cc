// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/number_formats.h"

namespace conclave::core {

static_assert(std::endian::native == std::endian::little, "tensor bytes are read as they stand in the file");

namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kChunkElements = 16384;

template <class T, class Convert>
void ConvertAll(const void* from, int64_t count, float* out, Convert convert) {
  const T* values = static_cast<const T*>(from);
  for (int64_t i = 0; i < count; ++i) out[i] = convert(values[i]);
}

// Converts `count` elements of an entry's type; false if that type has no value as a float.
bool ConvertToFloats(const SafetensorsEntry& entry, const void* from, int64_t count, float* out) {
  const auto cast = [](auto value) { return static_cast<float>(value); };
  if (entry.dtype_name == "BF16") {
    ConvertAll<Bf16>(from, count, out, [](Bf16 value) { return ToFloat(value); });
  } else if (entry.dtype_name == "F16") {
    ConvertAll<uint16_t>(from, count, out, HalfToFloat);
  } else if (entry.dtype_name == "F8_E4M3") {
    ConvertAll<uint8_t>(from, count, out, Float8ToFloat);
  } else if (entry.dtype_name == "F64") {
    ConvertAll<double>(from, count, out, cast);
  } else if (entry.dtype_name == "I32") {
    ConvertAll<int32_t>(from, count, out, cast);
  } else if (entry.dtype_name == "I64") {
    ConvertAll<int64_t>(from, count, out, cast);
  } else {
    return false;
  }
  return true;
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": safetensors header: ", status.message()));
}

}  // namespace

struct SafetensorsFile::State {
  InputFile file;
  std::vector<SafetensorsEntry> entries;
  std::vector<int32_t> by_name;  // indexes of entries, ascending names
  std::map<std::string, std::string> metadata;
  int64_t data_begin = 0;  // bytes from the start of the file
};

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(InputFile file, InputFile::Open(path));
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes are too few for a safetensors file", path, file.size()));
  }
  uint64_t length = 0;
  RETURN_IF_ERROR(file.Read(0, kLengthBytes, &length));
  const int64_t room = file.size() - kLengthBytes;
  if (length > static_cast<uint64_t>(std::min(room, kMaxSafetensorsHeaderBytes))) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: not a safetensors file, or cut off: it claims a header of %d bytes; %d follow, %d are allowed", path,
        length, room, kMaxSafetensorsHeaderBytes));
  }
  std::string header(length, '\0');
  RETURN_IF_ERROR(file.Read(kLengthBytes, static_cast<int64_t>(length), header.data()));
  std::map<std::string, std::string> metadata;
  auto entries = ParseHeader(header, room - static_cast<int64_t>(length), &metadata);
  if (!entries.ok()) return InFile(path, entries.status());

  SafetensorsFile result;
  result.state_ = std::make_shared<State>(State{.file = std::move(file),
                                                .entries = *std::move(entries),
                                                .by_name = {},
                                                .metadata = std::move(metadata),
                                                .data_begin = kLengthBytes + static_cast<int64_t>(length)});
  State& state = *result.state_;
  state.by_name.resize(state.entries.size());
  std::iota(state.by_name.begin(), state.by_name.end(), 0);
  std::sort(state.by_name.begin(), state.by_name.end(),
            [&state](int32_t a, int32_t b) { return state.entries[a].name < state.entries[b].name; });
  return result;
}

const std::string& SafetensorsFile::path() const { return state_->file.path(); }
const std::vector<SafetensorsEntry>& SafetensorsFile::entries() const { return state_->entries; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return state_->metadata; }

const SafetensorsEntry* SafetensorsFile::Find(std::string_view name) const {
  const State& state = *state_;
  const auto found =
      std::lower_bound(state.by_name.begin(), state.by_name.end(), name,
                       [&state](int32_t i, std::string_view wanted) { return state.entries[i].name < wanted; });
  if (found == state.by_name.end() || state.entries[*found].name != name) return nullptr;
  return &state.entries[*found];
}

absl::Status SafetensorsFile::ReadBytes(const SafetensorsEntry& entry, int64_t offset, int64_t bytes, void* out) const {
  CHECK_GE(offset, 0);
  CHECK_GE(bytes, 0);
  CHECK_LE(offset, entry.end - entry.begin);
  CHECK_LE(bytes, entry.end - entry.begin - offset);
  return state_->file.Read(state_->data_begin + entry.begin + offset, bytes, out);
}

absl::Status SafetensorsFile::ReadFloats(const SafetensorsEntry& entry, int64_t first, int64_t count,
                                         float* out) const {
  if (entry.dtype_name == "F32") return ReadBytes(entry, first * 4, count * 4, out);
  if (!ConvertToFloats(entry, nullptr, 0, out)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor %s has dtype %s, which cannot be read as numbers here", path(), Quoted(entry.name),
                        entry.dtype_name));
  }
  const int64_t width = FindStoredType(entry.dtype_name)->bits / 8;
  std::vector<double> chunk(
      static_cast<size_t>(std::min(count, kChunkElements)));  // the widest type, so aligned for all
  for (int64_t done = 0; done < count; done += kChunkElements) {
    const int64_t now = std::min(kChunkElements, count - done);
    RETURN_IF_ERROR(ReadBytes(entry, (first + done) * width, now * width, chunk.data()));
    ConvertToFloats(entry, chunk.data(), now, out + done);
  }
  return absl::OkStatus();
}

}  // namespace conclave::core
