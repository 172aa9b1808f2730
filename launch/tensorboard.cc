// SPDX-License-Identifier: Apache-2.0
#include "launch/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"

namespace conclave::launch {
namespace {

constexpr uint32_t kCastagnoli = 0x82f63b78;  // reflected
constexpr uint32_t kMaskDelta = 0xa282ead8;

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kCastagnoli : 0);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

enum WireType { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

template <class T>
void AppendLittleEndian(T value, std::string& out) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendKey(int field, WireType type, std::string& out) {
  AppendVarint(static_cast<uint64_t>(field) << 3 | type, out);
}

void AppendBytes(int field, std::string_view bytes, std::string& out) {
  AppendKey(field, kLengthDelimited, out);
  AppendVarint(bytes.size(), out);
  out.append(bytes);
}

// Fields 1 and 2 of every Event.
std::string BeginEvent(double wall_time, int64_t step) {
  std::string event;
  AppendKey(1, kFixed64, event);
  AppendLittleEndian(std::bit_cast<uint64_t>(wall_time), event);
  AppendKey(2, kVarint, event);
  AppendVarint(static_cast<uint64_t>(step), event);
  return event;
}

double WallTime() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string HostName() {
  char name[256] = "localhost";
  if (::gethostname(name, sizeof(name) - 1) != 0) return "localhost";
  return name;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

uint32_t MaskedCrc32c(std::string_view bytes) { return std::rotr(Crc32c(bytes), 15) + kMaskDelta; }

std::string EncodeVersion(double wall_time) {
  std::string event = BeginEvent(wall_time, 0);
  AppendBytes(3, "brain.Event:2", event);
  return event;
}

std::string EncodeSessionStart(double wall_time, int64_t step) {
  std::string session;
  AppendKey(1, kVarint, session);
  AppendVarint(1, session);  // SessionLog.START
  std::string event = BeginEvent(wall_time, step);
  AppendBytes(7, session, event);
  return event;
}

std::string EncodeScalars(double wall_time, int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    AppendBytes(1, scalar.tag, value);
    AppendKey(2, kFixed32, value);
    AppendLittleEndian(std::bit_cast<uint32_t>(static_cast<float>(scalar.value)), value);
    AppendBytes(1, value, summary);
  }
  std::string event = BeginEvent(wall_time, step);
  AppendBytes(5, summary, event);
  return event;
}

std::string EncodeRecord(std::string_view message) {
  std::string record;
  AppendLittleEndian(static_cast<uint64_t>(message.size()), record);
  AppendLittleEndian(MaskedCrc32c(record), record);
  record.append(message);
  AppendLittleEndian(MaskedCrc32c(message), record);
  return record;
}

absl::StatusOr<EventFile> EventFile::Create(const std::string& dir, int64_t first_step) {
  RETURN_IF_ERROR(core::MakeDirectories(dir));
  const double now = WallTime();
  std::string path;
  for (int counter = 0; path.empty() || core::FileExists(path); ++counter) {
    path = absl::StrFormat("%s/events.out.tfevents.%010d.%s.%d.%d", dir, static_cast<int64_t>(now), HostName(),
                           ::getpid(), counter);
  }
  EventFile events;
  ASSIGN_OR_RETURN(events.file_, AppendFile::Open(path, 0));
  RETURN_IF_ERROR(events.file_.Append(EncodeRecord(EncodeVersion(now))));
  RETURN_IF_ERROR(events.file_.Append(EncodeRecord(EncodeSessionStart(now, first_step))));
  return events;
}

absl::Status EventFile::Append(int64_t step, std::span<const Scalar> scalars) {
  return file_.Append(EncodeRecord(EncodeScalars(WallTime(), step, scalars)));
}

}  // namespace conclave::launch
