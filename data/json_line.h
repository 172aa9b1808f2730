// SPDX-License-Identifier: Apache-2.0
// One line of a JSONL file: a text in a named field, or a chat in `messages`. Read by events, never as a tree: only
// what is wanted is kept, nesting is counted and bounded.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/chat_template.h"

namespace conclave::data {

struct JsonDocument {
  std::string text;
  std::vector<Message> messages;  // if it is a chat
  bool is_chat = false;
};

// Fills `document`, or says why the line is none. A line without the field is a chat if it has `messages`, a list of
// {role, content}, and the field is "messages" or the default, "text". Of duplicate keys the last one counts.
std::string ParseJsonLine(std::string_view line, const std::string& field, JsonDocument& document);

}  // namespace conclave::data
