// SPDX-License-Identifier: Apache-2.0
// One line of a JSONL file: a text in a named field, or a chat in `messages`. Read by events, never as a tree: only
// what is wanted is kept.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

#include "core/base/json.h"
#include "data/chat_template.h"
#include "data/text_source.h"

namespace conclave::data {

struct JsonDocument {
  std::string text;
  std::vector<Message> messages;  // if it is a chat
  bool is_chat = false;
};

// Fills `document`. A line without the field is a chat if it has `messages`, a list of {role, content}, and the field
// is "messages" or the default, "text". `source` says where the line is from; errors begin with it.
absl::Status ParseJsonLine(std::string_view line, const core::JsonSource& source, const std::string& field,
                           JsonDocument& document);

// The lines of a chunk of JSON lines that are not blank, with their places.
class LineCursor {
 public:
  explicit LineCursor(const TextChunk& chunk) : rest_(chunk.text), path_(chunk.file->path), next_(chunk.first_line) {}

  bool Next();
  std::string_view line() const { return line_; }
  core::JsonSource source() const { return {.name = path_, .first_line = next_ - 1}; }
  bool is_last() const { return rest_.empty(); }

 private:
  std::string_view rest_, line_, path_;
  int64_t next_;  // number of the first line in rest_
};

}  // namespace conclave::data
