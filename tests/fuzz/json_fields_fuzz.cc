// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for lines of prompts and samples: a line is read as a problem with an answer, or refused with its
// place; what is read is what the JSON library finds under these names.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "nlohmann/json.hpp"

#include "core/base/check.h"
#include "data/json_fields.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave;
  const std::string_view line(reinterpret_cast<const char*>(bytes), size);
  if (line.find('\n') != std::string_view::npos) return 0;  // it would be several
  std::array<data::JsonField, 2> fields = {data::JsonField{.name = "prompt"}, data::JsonField{.name = "answer"}};
  std::string keys;
  const absl::Status status = data::ReadFields(line, {.name = "file", .first_line = 7}, fields, keys);
  if (!status.ok()) {
    CHECK(status.message().find("file:7:") == 0);
    return 0;
  }
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  CHECK(object.is_object());
  for (const data::JsonField& field : fields) {
    const auto found = object.find(field.name);
    CHECK_EQ(field.value.has_value(), found != object.end() && (found->is_string() || found->is_number()));
    CHECK_EQ(field.kind.empty(), found == object.end() || found->is_string() || found->is_number());
    if (field.value && found->is_string()) CHECK(*field.value == found->get<std::string>());
  }
  return 0;
}
