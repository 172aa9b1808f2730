// SPDX-License-Identifier: Apache-2.0
// A YAML document as a plain tree in which every node knows where it was written. Built from parser events, never from
// yaml-cpp's own nodes: duplicate keys, aliases, tags and depth are seen, and refused, while the text is read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::core {

inline constexpr size_t kMaxYamlBytes = size_t{1} << 18;
inline constexpr size_t kMaxYamlDepth = 32;
inline constexpr size_t kMaxYamlNodes = size_t{1} << 14;
inline constexpr size_t kMaxYamlMarks =
    3 * (size_t{1} << 14);  // brackets, commas, quotes, keys, lines: what takes time

// Where a node was written. `source` (a file's name, or the text of an override) belongs to the caller.
struct YamlPlace {
  std::string_view source = {};
  int line = 0, column = 0;  // from 1; line 0 = an override, which has no lines
};

// "a.yaml:7:10", or: override "optim.lr=fast".
std::string ToText(const YamlPlace& place);
absl::Status ErrorAt(const YamlPlace& place, const std::string& message);  // "file:line:column: message"

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  YamlPlace place = {};
  std::string text = {};  // of a scalar
  bool quoted = false;    // a scalar in quotes or a block of text: never a number
  std::string key = {};   // of an entry of a map
  YamlPlace key_place = {};
  std::vector<YamlNode> children = {};  // entries of a list or a map, as written

  bool IsMap() const { return kind == Kind::kMap; }
  bool IsList() const { return kind == Kind::kList; }
  bool IsScalar() const { return kind == Kind::kScalar; }
  YamlNode* Find(std::string_view name);  // entry of a map; nullptr if absent
  const YamlNode* Find(std::string_view name) const { return const_cast<YamlNode*>(this)->Find(name); }
};

// "a list", "keys with values", "nothing", or the scalar in quotes.
std::string KindText(const YamlNode& node);

// Reads one document; an empty one is a null node. All nodes take `source`; line 0 in it keeps their lines at 0.
absl::StatusOr<YamlNode> ParseYaml(std::string_view text, YamlPlace source);

}  // namespace conclave::core
