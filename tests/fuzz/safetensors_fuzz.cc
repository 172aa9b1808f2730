// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for the safetensors header: the first two bytes are the size of the data section, the rest is the
// JSON. Whatever is accepted must be a gapless list of ranges inside the data section.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "core/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using conclave::core::SafetensorsFile;
  if (size < 2) return 0;
  const int64_t data_bytes = bytes[0] | (bytes[1] << 8);
  std::map<std::string, std::string> metadata;
  const auto entries = SafetensorsFile::ParseHeader(
      std::string_view(reinterpret_cast<const char*>(bytes) + 2, size - 2), data_bytes, &metadata);
  if (!entries.ok()) {
    CHECK(!entries.status().message().empty());
    return 0;
  }
  int64_t end = 0;
  for (const auto& entry : *entries) {
    CHECK_EQ(entry.begin, end);
    CHECK_LE(entry.begin, entry.end);
    CHECK_LE(entry.shape.size(), 8);
    end = entry.end;
  }
  CHECK_EQ(end, data_bytes);
  return 0;
}
