// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for the JSON reader. Its grammar is that of nlohmann's own parser, but for the byte order marks and
// zero bytes that one skips, and for nesting beyond the limit; trees are equal, and what is written is read back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "nlohmann/json.hpp"

#include "core/base/check.h"
#include "core/base/json_tree.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using conclave::core::JsonChecks;
  using nlohmann::json;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto strict = conclave::core::ParseJson(text, {.name = "fuzz"}, {});
  const auto grammar = conclave::core::ParseJson(text, {.name = "fuzz"}, {.checks = JsonChecks::kGrammar});
  CHECK(!strict.ok() || (grammar.ok() && *strict == *grammar));
  const json other = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!grammar.ok()) {
    const bool deep = grammar.status().message().find("nested deeper") != absl::string_view::npos;
    const bool skipped = text.starts_with("\xEF\xBB\xBF") || text.find('\0') != std::string_view::npos;
    CHECK(other.is_discarded() || deep || skipped);
    return 0;
  }
  CHECK(other == *grammar);
  const auto again = conclave::core::ParseJson(grammar->dump(), {}, {.max_bytes = size_t{1} << 30});
  CHECK(again.ok() && *again == *grammar);
  return 0;
}
