// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files without TensorFlow. A record is u64 length, u32 masked CRC-32C of it, the bytes of one Event
// message, u32 masked CRC-32C of those. Three messages are needed (version, session start, scalars), so they are
// encoded by hand: field number << 3 | wire type, then the value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "launch/metrics.h"

namespace conclave::launch {

uint32_t Crc32c(std::string_view bytes);
// As stored: a CRC of bytes that hold CRCs would be weak.
uint32_t MaskedCrc32c(std::string_view bytes);

struct Scalar {
  std::string_view tag;
  double value;
};

// Event messages.
std::string EncodeVersion(double wall_time);
std::string EncodeSessionStart(double wall_time, int64_t step);
std::string EncodeScalars(double wall_time, int64_t step, std::span<const Scalar> scalars);
// A message with length and checksums around it.
std::string EncodeRecord(std::string_view message);

class EventFile {
 public:
  EventFile() = default;
  // Opens a new file in `dir`. TensorBoard then forgets points of earlier files from `first_step` on.
  static absl::StatusOr<EventFile> Create(const std::string& dir, int64_t first_step);
  absl::Status Append(int64_t step, std::span<const Scalar> scalars);

 private:
  AppendFile file_;
};

}  // namespace conclave::launch
