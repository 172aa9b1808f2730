// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for config.json: a model that is accepted reads back from what is written of it, unchanged.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "core/config/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave::core;
  const auto model = ParseHfConfig(std::string_view(reinterpret_cast<const char*>(bytes), size), "fuzz");
  if (!model.ok()) {
    CHECK(model.status().message().substr(0, 4) == "fuzz");
    return 0;
  }
  const std::string text = WriteHfConfig(*model, "float32");
  const auto again = ParseHfConfig(text, "again");
  CHECK(again.ok());
  CHECK(WriteHfConfig(*again, "float32") == text);
  return 0;
}
