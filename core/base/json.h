// SPDX-License-Identifier: Apache-2.0
// JSON of others as a stream of events: the one reader of foreign JSON. No tree is built, so neither depth nor size of
// a text decides how much memory it takes. Checked are size, depth, the whole grammar (RFC 8259) with its UTF-8, and
// that no key stands twice; a byte order mark is refused. A number must be finite as a double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace conclave::core {

// Where a text is from, for messages.
struct JsonSource {
  std::string_view name = {};  // of the file; empty = messages start with the line
  int64_t first_line = 1;      // in that file
};

// What is checked beyond the grammar.
enum class JsonChecks {
  kGrammar,   // nothing
  kTopLevel,  // no key twice in the outermost object: for lines of which one field is read
  kAll,       // no key twice in any object
};

struct JsonLimits {
  size_t max_bytes = size_t{16} << 20;  // less than 4 GiB
  int max_depth = 64;                   // arrays and objects that are open at once
  JsonChecks checks = JsonChecks::kAll;
};

// Receives the events. A reader overrides those that it accepts; every other event ends the parse with a message. All
// return true to go on, or Refuse(...).
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;

  virtual bool Null();
  virtual bool Bool(bool value);
  virtual bool Negative(int64_t value);                     // a whole number with a minus sign, -0 included
  virtual bool Unsigned(uint64_t value);                    // a whole number without one
  virtual bool Float(double value, std::string_view text);  // all others, also those beyond 64 bits, with their text
  virtual bool String(std::string& text);                   // may be moved away
  virtual bool Key(std::string& key);                       // of the value that follows; may be moved away
  virtual bool BeginObject();
  virtual bool EndObject() { return true; }
  virtual bool BeginArray();
  virtual bool EndArray() { return true; }

  const std::string& problem() const { return problem_; }

 protected:
  // Ends the parse; `why` stands in the message, behind the place. Returns false.
  bool Refuse(std::string why);

 private:
  std::string problem_;
};

// Sends the events of `text` to `events`, which has seen an unknown part of them if the result is an error. Messages
// start with "name:line:column: ".
absl::Status ReadJson(std::string_view text, const JsonSource& source, const JsonLimits& limits, JsonEvents& events);

}  // namespace conclave::core
