// SPDX-License-Identifier: Apache-2.0
// YamlNode to Config: a visitor that looks each field up, and complains about keys that no field asked for. All
// complaints about a file are gathered, so that a user mends them in one go; then the rules of Validate follow.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/fields.h"
#include "core/base/status_macros.h"
#include "core/config/config_tree.h"
#include "core/config/key_table.h"
#include "core/config/nearest.h"
#include "core/config/overrides.h"
#include "core/config/stage_defaults.h"
#include "core/config/value_text.h"
#include "core/config/yaml.h"
#include "core/config/yaml_node.h"

namespace conclave::core {
namespace {

constexpr size_t kMaxProblems = 20;

struct Problem {
  YamlPlace place;
  std::string text;  // "optim.lr: "fast" is not a number"
};

// What an unknown key was meant to be: a sibling, else a key of that name elsewhere in the tree, else a list of
// siblings.
std::string Suggestion(const std::string& path, const std::string& name, const std::vector<std::string>& siblings) {
  if (const std::string_view nearest = Nearest(name, siblings); !nearest.empty()) {
    return absl::StrFormat("did you mean %s?", JoinKeys(path, std::string(nearest)));
  }
  for (const KeyInfo& key : AllKeys()) {
    if (key.path == name || key.path.ends_with("." + name)) return absl::StrFormat("did you mean %s?", key.path);
  }
  std::string known;
  for (const std::string& sibling : siblings) known += (known.empty() ? "" : ", ") + sibling;
  return "known here: " + known;
}

// What messages about one of several stages begin with.
std::string StageText(std::string_view stage) { return stage.empty() ? "" : absl::StrFormat("stage %s: ", stage); }

class ConfigReader {
 public:
  explicit ConfigReader(std::string_view stage) : stage_(stage) {}

  template <class T>
  void Read(const YamlNode& node, const std::string& path, T& value) {
    if (!node.IsScalar()) return AddMismatch(node, path, TypeText<T>());
    const std::string text = KindText(node);
    if (node.quoted) return Add(node.place, path, text + " is text in quotes; " + TypeText<T>() + " is expected");
    if (const char* wrong = ParseValue(node.text, value)) Add(node.place, path, text + " " + wrong);
  }

  void Read(const YamlNode& node, const std::string& path, std::string& value) {
    if (!node.IsScalar()) return AddMismatch(node, path, TypeText<std::string>());
    value = node.text;
  }

  void Read(const YamlNode& node, const std::string& path, std::optional<double>& value) {
    if (node.kind == YamlNode::Kind::kNull) return value.reset();
    Read(node, path, value.emplace());
  }

  template <class T>
  void Read(const YamlNode& node, const std::string& path, std::vector<T>& list) {
    if constexpr (HasFields<T>) {
      if (node.IsMap()) {  // one entry needs no list
        list.assign(1, T());
        return Read(node, path, list[0]);
      }
    }
    if (!node.IsList()) return AddMismatch(node, path, "a list such as [a, b]");
    list.assign(node.children.size(), T());
    for (size_t i = 0; i < list.size(); ++i) Read(node.children[i], absl::StrFormat("%s.%d", path, i), list[i]);
  }

  template <HasFields T>
  void Read(const YamlNode& node, const std::string& path, T& value) {
    if (!node.IsMap()) return AddMismatch(node, path, "keys with values");
    FieldVisitor visitor{*this, node, path, {}};
    value.VisitFields(visitor);
    for (const YamlNode& child : node.children) {
      if (problems_.size() >= kMaxProblems) return;
      if (std::find(visitor.names.begin(), visitor.names.end(), child.key) != visitor.names.end()) continue;
      problems_.push_back({child.key_place, absl::StrFormat("unknown key %s; %s", JoinKeys(path, child.key),
                                                            Suggestion(path, child.key, visitor.names))});
    }
  }

  void Add(const YamlPlace& place, const std::string& path, const std::string& text) {
    problems_.push_back({place, path.empty() ? text : path + ": " + text});
  }

  // All complaints, one per line, in the order of the file; overrides follow.
  absl::Status Status() {
    if (problems_.empty()) return absl::OkStatus();
    std::stable_sort(problems_.begin(), problems_.end(), [](const Problem& a, const Problem& b) {
      return std::make_tuple(a.place.line == 0, a.place.line, a.place.column) <
             std::make_tuple(b.place.line == 0, b.place.line, b.place.column);
    });
    std::string message;
    for (size_t i = 0; i < std::min(problems_.size(), kMaxProblems); ++i) {
      message += absl::StrFormat("%s%s: %s%s", i == 0 ? "" : "\n", ToText(problems_[i].place), StageText(stage_),
                                 problems_[i].text);
    }
    return absl::InvalidArgumentError(message);
  }

 private:
  struct FieldVisitor {
    ConfigReader& reader;
    const YamlNode& node;
    const std::string& path;
    std::vector<std::string> names;

    template <class T>
    void Field(const char* name, T& value, const char*, const char*) {
      names.push_back(name);
      if (const YamlNode* child = node.Find(name)) reader.Read(*child, JoinKeys(path, name), value);
    }
  };

  void AddMismatch(const YamlNode& node, const std::string& path, const char* expected) {
    Add(node.place, path, absl::StrFormat("%s is given; %s is expected", KindText(node), expected));
  }

  const std::string_view stage_;
  std::vector<Problem> problems_;
};

// A folder says all about its model: whoever also gives a size would expect it to matter.
void CheckModelFrom(const YamlNode& root, ConfigReader& reader) {
  const YamlNode* model = root.Find("model");
  const YamlNode* from = model == nullptr ? nullptr : model->Find("from");
  if (from == nullptr || from->text.empty()) return;
  for (const YamlNode& child : model->children) {
    if (child.key == "from") continue;
    reader.Add(child.key_place, "model." + child.key,
               "is given beside model.from, whose config.json decides; remove one of them");
  }
}

// Puts the place of the key that the message starts with in front of it.
absl::Status ValidateAt(const YamlNode& root, const Config& config, std::string_view stage) {
  const absl::Status status = Validate(config);
  if (status.ok()) return status;
  const std::string message(status.message());
  const YamlNode& node = FindClosest(root, std::string_view(message).substr(0, message.find(':')));
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s%s", ToText(node.place), StageText(stage), message));
}

}  // namespace

absl::StatusOr<std::string> ReadConfigText(const std::string& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) return absl::InvalidArgumentError(path + ": is a folder, not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrFormat("%s: %s", path, std::strerror(errno)));
  std::string text(kMaxYamlBytes + 1, '\0');  // one byte more than ParseYaml takes
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::UnavailableError(absl::StrFormat("%s: %s", path, std::strerror(errno)));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<YamlNode> ParseConfigTree(std::string_view text, const std::string& name,
                                         std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(YamlNode root, ParseYaml(text, {.source = name, .line = 1, .column = 1}));
  if (root.kind == YamlNode::Kind::kNull) root.kind = YamlNode::Kind::kMap;  // an empty file: all defaults
  for (const std::string& override_text : overrides) RETURN_IF_ERROR(ApplyOverride(override_text, root));
  return root;
}

absl::StatusOr<Config> ReadConfigTree(const YamlNode& root, std::string_view stage) {
  Config config = DefaultsFor(root);
  ConfigReader reader(stage);
  reader.Read(root, "", config);
  FillFromOthers(root, config);
  CheckModelFrom(root, reader);
  RETURN_IF_ERROR(reader.Status());
  RETURN_IF_ERROR(ValidateAt(root, config, stage));
  return config;
}

absl::StatusOr<Config> ParseConfig(std::string_view text, const std::string& name,
                                   std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(const YamlNode root, ParseConfigTree(text, name, overrides));
  if (const YamlNode* stages = root.Find("stages"); stages != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: stages: this command takes the file of one run; a stage that has begun has such a file, "
                        "stages/NAME/config.yaml in run.dir",
                        ToText(stages->key_place)));
  }
  return ReadConfigTree(root, "");
}

absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigText(path));
  return ParseConfig(text, path, overrides);
}

}  // namespace conclave::core
