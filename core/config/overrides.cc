// SPDX-License-Identifier: Apache-2.0
// A path is walked one part at a time: a number leads into a list, a name into a map or to the entry of a list that has
// it.
#include "core/config/overrides.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {

bool IsIndex(std::string_view part) {
  return !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
}

size_t ToIndex(std::string_view part) {
  size_t index = 0;
  std::from_chars(part.data(), part.data() + part.size(), index);
  return index;
}

// Cuts the first part off `path`.
std::string_view NextPart(std::string_view& path) {
  const size_t dot = path.find('.');
  const std::string_view part = path.substr(0, dot);
  path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  return part;
}

// The entry of a list whose key `name` has the value `part`.
absl::StatusOr<YamlNode*> EnterNamed(YamlNode& list, std::string_view part, std::string_view done,
                                     const YamlPlace& place) {
  std::string known;
  for (YamlNode& entry : list.children) {
    const YamlNode* name = entry.Find("name");
    if (name == nullptr || !name->IsScalar()) continue;
    if (name->text == part) return &entry;
    known += (known.empty() ? "" : ", ") + name->text;
  }
  const std::string why = known.empty() ? absl::StrFormat("is a list; \"%s\" does not lead into it", part)
                                        : absl::StrFormat("has no entry named \"%s\"; there are %s", part, known);
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s %s", ToText(place), done, why));
}

// The child of `node` named `part`; made if it is missing. `done` is the path so far, for messages.
absl::StatusOr<YamlNode*> Enter(YamlNode& node, std::string_view part, std::string_view done, const YamlPlace& place) {
  const YamlNode::Kind kind = IsIndex(part) ? YamlNode::Kind::kList : YamlNode::Kind::kMap;
  if (node.kind == YamlNode::Kind::kNull) {
    node.kind = kind;
    node.place = place;
  }
  if (node.IsList() && kind == YamlNode::Kind::kMap) return EnterNamed(node, part, done, place);
  if (node.kind != kind) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s is %s; \"%s\" does not lead into it", ToText(place),
                                                      done.empty() ? "the top level" : done, KindText(node), part));
  }
  if (node.IsMap()) {
    if (YamlNode* child = node.Find(part)) return child;
  } else if (ToIndex(part) < node.children.size()) {
    return &node.children[ToIndex(part)];
  } else if (ToIndex(part) > node.children.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s has %d entries, counted from 0; there is no %s",
                                                      ToText(place), done, node.children.size(), part));
  }
  node.children.push_back({.place = place, .key = std::string(part), .key_place = place});
  return &node.children.back();
}

}  // namespace

absl::Status ApplyOverride(const std::string& text, YamlNode& root) {
  const YamlPlace place{.source = text};
  const size_t equals = text.find('=');
  std::string_view path = std::string_view(text).substr(0, equals);
  if (equals == std::string::npos || path.empty() || path.starts_with('.') || path.ends_with('.') ||
      path.find("..") != std::string_view::npos || std::count(path.begin(), path.end(), '.') >= int{kMaxYamlDepth}) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: expected KEY=VALUE, such as optim.lr=1e-3", ToText(place)));
  }
  ASSIGN_OR_RETURN(YamlNode value, ParseYaml(std::string_view(text).substr(equals + 1), place));
  YamlNode* node = &root;
  const std::string_view whole = path;
  while (!path.empty()) {
    const std::string_view done = whole.substr(0, whole.size() - path.size());
    const std::string_view part = NextPart(path);
    ASSIGN_OR_RETURN(node, Enter(*node, part, done.substr(0, done.empty() ? 0 : done.size() - 1), place));
  }
  value.key = std::move(node->key);
  value.key_place = node->key_place;
  *node = std::move(value);
  return absl::OkStatus();
}

const YamlNode& FindClosest(const YamlNode& root, std::string_view path) {
  const YamlNode* node = &root;
  while (!path.empty()) {
    const std::string_view part = NextPart(path);
    const YamlNode* child = node->Find(part);
    if (node->IsList() && IsIndex(part) && ToIndex(part) < node->children.size()) {
      child = &node->children[ToIndex(part)];
    }
    if (child == nullptr) break;
    node = child;
  }
  return *node;
}

}  // namespace conclave::core
