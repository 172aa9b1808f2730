// SPDX-License-Identifier: Apache-2.0
// Two ways to print key_table.h.
#include "core/config/help.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/config/key_table.h"
#include "core/config/nearest.h"

namespace conclave::core {
namespace {

bool IsGroup(const KeyInfo& key) { return key.type == "keys" || key.type == "a list of entries"; }

// "data.train.0.path" and "data.train.path" as the table has it: "data.train.N.path".
std::string TablePath(std::string_view path, const std::vector<KeyInfo>& keys) {
  std::string table_path;
  while (!path.empty()) {
    const size_t dot = path.find('.');
    const std::string_view part = path.substr(0, dot);
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    if (part.find_first_not_of("0123456789") == std::string_view::npos) continue;
    if (!table_path.empty()) table_path += '.';
    table_path += part;
    const auto list =
        std::find_if(keys.begin(), keys.end(), [&](const KeyInfo& key) { return key.path == table_path; });
    if (list != keys.end() && list->type == "a list of entries" && !path.empty() && !path.starts_with("N.")) {
      table_path += ".N";
    }
  }
  return table_path.ends_with(".N") ? table_path.substr(0, table_path.size() - 2) : table_path;
}

// True if `path` is a key of the group `group` itself, not of a group inside it. Entries of a list count as its keys.
bool IsDirectKey(std::string_view path, const std::string& group) {
  if (!group.empty()) {
    if (!path.starts_with(group + ".")) return false;
    path.remove_prefix(group.size() + 1);
  }
  if (path.starts_with("N.")) path.remove_prefix(2);
  return path.find('.') == std::string_view::npos;
}

std::string Line(const KeyInfo& key) {
  if (IsGroup(key)) return absl::StrFormat("%s (%s)\n    %s\n", key.path, key.type, key.help);
  const std::string unit = key.unit.empty() ? "" : ", " + key.unit;
  return absl::StrFormat("%s (%s%s, default %s)\n    %s\n", key.path, key.type, unit, key.default_text, key.help);
}

std::string KeysOf(const std::string& group, const std::vector<KeyInfo>& keys) {
  std::string text;
  for (const KeyInfo& key : keys) {
    if (IsDirectKey(key.path, group)) text += Line(key);
  }
  return text;
}

absl::Status Unknown(const std::string& path, const std::vector<KeyInfo>& keys) {
  std::vector<std::string> paths;
  for (const KeyInfo& key : keys) paths.push_back(key.path);
  std::string_view nearest = Nearest(path, paths);
  for (const std::string& known : paths) {
    if (nearest.empty() && known.ends_with("." + path)) nearest = known;
  }
  return absl::NotFoundError(
      absl::StrFormat("unknown key %s%s", path, nearest.empty() ? "" : absl::StrFormat("; did you mean %s?", nearest)));
}

// A cell of a table: a bar would end it.
std::string Cell(const std::string& text) {
  std::string cell;
  for (const char c : text) cell += c == '|' ? std::string("\\|") : std::string(1, c);
  return cell;
}

}  // namespace

absl::StatusOr<std::string> HelpForKey(std::string_view path) {
  const std::vector<KeyInfo> keys = AllKeys();
  if (path.empty()) return KeysOf("", keys);
  const std::string table_path = TablePath(path, keys);
  for (const KeyInfo& key : keys) {
    if (key.path != table_path) continue;
    return IsGroup(key) ? Line(key) + "\n" + KeysOf(key.path, keys) : Line(key);
  }
  return Unknown(std::string(path), keys);
}

std::string KeyTables() {
  const std::vector<KeyInfo> keys = AllKeys();
  std::string page;
  const auto add_table = [&](const std::string& group) {
    page += "\n| key | type | unit | default | meaning |\n|---|---|---|---|---|\n";
    for (const KeyInfo& key : keys) {
      if (!IsDirectKey(key.path, group)) continue;
      page += absl::StrFormat("| `%s` | %s | %s | %s | %s |\n", key.path, Cell(key.type), key.unit,
                              key.default_text.empty() ? "" : "`" + Cell(key.default_text) + "`", Cell(key.help));
    }
  };
  add_table("");
  for (const KeyInfo& key : keys) {
    if (!IsGroup(key)) continue;
    page += absl::StrFormat("\n### %s\n\n%s.\n", key.path, key.help);
    add_table(key.path);
  }
  return page;
}

}  // namespace conclave::core
