// SPDX-License-Identifier: Apache-2.0
// Records with several fields: the texts of named fields of a JSONL line, and the lines of a whole source.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

#include "core/base/json.h"

namespace conclave::data {

struct JsonField {
  std::string name;
  std::optional<std::string> value = {};  // of a number its text
  std::string kind = {};                  // of a value that is neither: "an array", "null", ...
};

// Fields that hold a problem where none is named: ours, that of GSM8K, that of MATH. The first one a line has counts.
inline constexpr std::string_view kPromptFields[] = {"prompt", "question", "problem"};

// The first one with a value; null if none has one.
inline const JsonField* FirstGiven(std::span<const JsonField> fields) {
  for (const JsonField& field : fields) {
    if (field.value) return &field;
  }
  return nullptr;
}

// Fills the values of the fields that the line has; errors begin with `source`. `keys` gets all names, for messages.
absl::Status ReadFields(std::string_view line, const core::JsonSource& source, std::span<JsonField> fields,
                        std::string& keys);

// All lines that are not blank, in order, of a file, folder or pattern of JSONL (plain, .gz, .zst). The first error
// ends it. `key` says in messages what the path is for.
using LineSink = std::function<absl::Status(std::string_view line, const core::JsonSource& source)>;
absl::Status ForEachLine(const std::string& path, std::string_view key, const LineSink& sink);

}  // namespace conclave::data
