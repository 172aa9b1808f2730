// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for config files: a config that is accepted reads back from what is written of it, with no key that
// differs.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/check.h"
#include "core/config/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave::core;
  const auto config = ParseConfig(std::string_view(reinterpret_cast<const char*>(bytes), size), "fuzz", {});
  if (!config.ok()) {
    CHECK(config.status().message().substr(0, 4) == "fuzz");
    return 0;
  }
  const auto again = ParseConfig(WriteConfig(*config), "again", {});
  CHECK(again.ok());
  CHECK(DifferingKeys(*config, *again).empty());
  return 0;
}
