// SPDX-License-Identifier: Apache-2.0
// Stages are merged as trees, before anything is read: so defaults that follow from a stage's keys, places in messages
// and rules are those of a file that says the same without `stages`.
#include "core/config/recipe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/config/config_tree.h"
#include "core/config/nearest.h"
#include "core/config/value_text.h"
#include "core/config/yaml.h"
#include "core/config/yaml_node.h"

namespace conclave::core {

constexpr std::string_view kStages = "/stages/";  // in the folder of a recipe

std::string StageDir(std::string_view recipe_dir, std::string_view stage) {
  return std::string(recipe_dir).append(kStages).append(stage);
}

std::string_view RecipeDir(std::string_view run_dir) {
  const size_t name = run_dir.rfind('/');
  if (name == std::string_view::npos || !run_dir.substr(0, name + 1).ends_with(kStages)) return "";
  return run_dir.substr(0, name + 1 - kStages.size());
}

namespace {

constexpr size_t kMaxStages = 64;
constexpr size_t kMaxNameBytes = 64;
constexpr std::string_view kRejectedSamples = "/data/reject.jsonl";  // in the folder of a stage

std::string TextAt(const YamlNode& node, std::string_view key, std::string_view inner) {
  const YamlNode* map = node.Find(key);
  const YamlNode* value = map == nullptr ? nullptr : map->Find(inner);
  return value == nullptr || !value->IsScalar() ? "" : value->text;
}

// The map {key: {inner: text}}.
YamlNode Setting(std::string key, std::string inner, std::string text, const YamlPlace& place) {
  const auto kMap = YamlNode::Kind::kMap;
  YamlNode value{.kind = YamlNode::Kind::kScalar,
                 .place = place,
                 .text = std::move(text),
                 .quoted = true,
                 .key = std::move(inner),
                 .key_place = place};
  YamlNode map{.kind = kMap, .place = place, .key = std::move(key), .key_place = place};
  map.children.push_back(std::move(value));
  YamlNode root{.kind = kMap, .place = place};
  root.children.push_back(std::move(map));
  return root;
}

void Erase(YamlNode& map, std::string_view key) {
  std::erase_if(map.children, [key](const YamlNode& child) { return child.key == key; });
}

void MergeInto(YamlNode& base, const YamlNode& over) {
  for (const YamlNode& child : over.children) {
    YamlNode* same = base.Find(child.key);
    if (same == nullptr) {
      base.children.push_back(child);
    } else if (same->IsMap() && child.IsMap()) {
      MergeInto(*same, child);
    } else {
      *same = child;
    }
  }
}

// Whether sizes of the one mean nothing for the other: a folder decides its own, and families differ in their keys.
bool AreUnrelatedModels(const YamlNode& base, const YamlNode& over) {
  if (!TextAt(base, "model", "from").empty() || !TextAt(over, "model", "from").empty()) return true;
  const std::string type = TextAt(over, "model", "model_type"), before = TextAt(base, "model", "model_type");
  return !type.empty() && type != (before.empty() ? ModelConfig().model_type : before);
}

bool IsStageName(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_other = [](char c) { return (c >= '0' && c <= '9') || c == '-'; };
  return !name.empty() && name.size() <= kMaxNameBytes && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || is_other(c); });
}

class RecipeReader {
 public:
  RecipeReader(YamlNode root, Recipe& recipe) : common_(std::move(root)), recipe_(recipe) {
    stages_ = *common_.Find("stages");
    Erase(common_, "stages");
  }

  absl::Status Read() {
    if (!stages_.IsList() || stages_.children.empty() || stages_.children.size() > kMaxStages) {
      return ErrorAt(stages_.place,
                     absl::StrFormat("stages: %s is given; a list of 1 to %d stages is expected, such as "
                                     "[{name: base, stage: pretrain}]",
                                     stages_.IsList() ? absl::StrFormat("a list of %d", stages_.children.size())
                                                      : KindText(stages_),
                                     kMaxStages));
    }
    recipe_.dir = TextAt(common_, "run", "dir");
    if (recipe_.dir.empty()) recipe_.dir = RunConfig().dir;
    for (const YamlNode& entry : stages_.children) RETURN_IF_ERROR(ReadStage(entry));
    return absl::OkStatus();
  }

 private:
  absl::Status ReadStage(const YamlNode& entry) {
    StagePlan plan;
    ASSIGN_OR_RETURN(plan.name, ReadName(entry));
    if (const YamlNode* control = entry.Find("control"); control != nullptr) {
      const char* wrong = "is not true or false";
      if (control->IsScalar() && !control->quoted) wrong = ParseValue(control->text, plan.control);
      if (wrong != nullptr) {
        return Refuse(control->place, plan, absl::StrFormat("control: %s %s", KindText(*control), wrong));
      }
    }
    YamlNode changes = entry;
    for (const char* key : {"name", "from", "control"}) Erase(changes, key);
    YamlNode tree = common_;
    if (TrainsOnRollouts(changes)) EraseRows(tree);
    if (changes.Find("model") != nullptr && AreUnrelatedModels(common_, changes)) Erase(tree, "model");
    MergeInto(tree, changes);
    RETURN_IF_ERROR(ResolveInputs(entry, plan, tree));
    RETURN_IF_ERROR(ResolveTeacher(plan, tree));
    RETURN_IF_ERROR(ResolveSamples(plan, tree));
    if (const YamlNode* run = changes.Find("run"); run != nullptr && run->Find("dir") != nullptr) {
      return Refuse(
          run->Find("dir")->key_place, plan,
          "run.dir: a stage has the folder stages/" + plan.name + " in the run.dir of the top level; remove this one");
    }
    // Else the reader says what is wrong with it.
    if (const YamlNode* run = tree.Find("run"); run == nullptr || run->IsMap()) {
      MergeInto(tree, Setting("run", "dir", DirOf(plan.name), entry.place));
    }
    ASSIGN_OR_RETURN(plan.config, ReadConfigTree(tree, plan.name));
    recipe_.stages.push_back(std::move(plan));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadName(const YamlNode& entry) const {
    if (!entry.IsMap())
      return ErrorAt(entry.place, "stages: " + KindText(entry) + " is given; an entry is {name: ..., stage: ...}");
    const YamlNode* name = entry.Find("name");
    if (name == nullptr || !name->IsScalar()) {
      return ErrorAt(entry.place, "stages: an entry has no name, which its folder is called; add name: ...");
    }
    if (!IsStageName(name->text)) {
      return ErrorAt(name->place,
                     absl::StrFormat("stages: %s is no name of a stage, which its folder is called: up to %d "
                                     "letters, digits, - and _, the first a letter",
                                     KindText(*name), kMaxNameBytes));
    }
    if (recipe_.Find(name->text) != nullptr) {
      return ErrorAt(name->place, absl::StrFormat("stages: the name %s stands twice; give another", name->text));
    }
    return name->text;
  }

  // What a stage takes from stages before it: the weights it starts from.
  absl::Status ResolveInputs(const YamlNode& entry, StagePlan& plan, YamlNode& tree) const {
    const YamlNode* from = entry.Find("from");
    if (from == nullptr) {
      if (tree.Find("model") != nullptr) return absl::OkStatus();
      return Refuse(entry.place, plan,
                    "model: none is given; add from: STAGE or from: FOLDER, or model with its sizes");
    }
    if (const YamlNode* model = entry.Find("model"); model != nullptr) {
      return Refuse(model->key_place, plan, "model: is given beside from, whose folder decides; remove one of them");
    }
    ASSIGN_OR_RETURN(const std::string folder, FolderOf(*from, plan));
    if (folder != from->text) plan.from = from->text;
    Erase(tree, "model");
    MergeInto(tree, Setting("model", "from", folder, from->place));
    return absl::OkStatus();
  }

  // A teacher is a stage before it, or a folder.
  absl::Status ResolveTeacher(const StagePlan& plan, YamlNode& tree) const {
    YamlNode* teacher = tree.Find("teacher");
    if (teacher == nullptr || StageOf(tree) != "distill") return absl::OkStatus();
    ASSIGN_OR_RETURN(teacher->text, FolderOf(*teacher, plan));
    teacher->quoted = true;
    return absl::OkStatus();
  }

  // sft.data: STAGE is the file of samples that this stage, of rejection sampling, has written.
  absl::Status ResolveSamples(const StagePlan& plan, YamlNode& tree) const {
    YamlNode* sft = tree.Find("sft");
    YamlNode* data = sft == nullptr || StageOf(tree) != "sft" ? nullptr : sft->Find("data");
    if (data == nullptr || !data->IsScalar() || data->text.empty() || data->text == "demos") return absl::OkStatus();
    RETURN_IF_ERROR(CheckIsBefore(*data, plan));
    const std::string& stage = recipe_.Find(data->text)->config.stage;
    if (stage != "reject") {
      return Refuse(data->place, plan,
                    absl::StrFormat("sft.data: %s is of stage %s, which writes no samples; name one of stage reject",
                                    data->text, stage));
    }
    const std::string path = DirOf(data->text) + std::string(kRejectedSamples);
    YamlNode samples = Setting("data", "train", "", data->place);
    YamlNode& list = samples.children[0].children[0];
    list.kind = YamlNode::Kind::kList;
    list.children = Setting("", "path", path, data->place).children;
    data->text.clear();
    data->quoted = true;
    MergeInto(tree, samples);
    return absl::OkStatus();
  }

  // As Config::TrainsOnRollouts, of an entry that is not merged yet.
  bool TrainsOnRollouts(const YamlNode& changes) const {
    const std::string stage = StageOf(changes.Find("stage") != nullptr ? changes : common_);
    const std::string source = TextAt(changes, "distill", "source");
    return stage == "grpo" ||
           (stage == "distill" && (source.empty() ? TextAt(common_, "distill", "source") : source) == "student");
  }

  // How many rows a batch of the other stages has: those of a rollout are what was drawn.
  static void EraseRows(YamlNode& tree) {
    YamlNode* batch = tree.Find("batch");
    if (batch == nullptr || !batch->IsMap()) return;
    for (const char* key : {"sequences", "ramp"}) Erase(*batch, key);
  }

  static std::string StageOf(const YamlNode& tree) {
    const YamlNode* stage = tree.Find("stage");
    return stage == nullptr || !stage->IsScalar() ? "" : stage->text;
  }

  // That of the stage that `value` names, or the folder that it is.
  absl::StatusOr<std::string> FolderOf(const YamlNode& value, const StagePlan& plan) const {
    if (!value.IsScalar() || value.text.empty()) {
      return Refuse(value.place, plan,
                    absl::StrFormat("%s: %s is given; a stage or a folder is expected", value.key, KindText(value)));
    }
    if (value.text.find('/') != std::string::npos) return value.text;
    RETURN_IF_ERROR(CheckIsBefore(value, plan));
    return DirOf(value.text);
  }

  absl::Status CheckIsBefore(const YamlNode& value, const StagePlan& plan) const {
    const std::string& wanted = value.text;
    if (recipe_.Find(wanted) != nullptr) return absl::OkStatus();
    const auto refuse = [&](const std::string& why) {
      return Refuse(value.place, plan, absl::StrFormat("%s: %s", value.key, why));
    };
    if (wanted == plan.name) return refuse("a stage cannot start from itself");
    for (const YamlNode& entry : stages_.children) {
      const YamlNode* name = entry.Find("name");
      if (name == nullptr || name->text != wanted) continue;
      return refuse(absl::StrFormat("%s stands behind it, and stages run in their order; move it up", wanted));
    }
    std::vector<std::string> names;
    for (const StagePlan& stage : recipe_.stages) names.push_back(stage.name);
    const std::string_view nearest = Nearest(wanted, names);
    return refuse(absl::StrFormat("no stage is named %s; %sa folder is written with a slash, such as ./%s",
                                  KindText(value),
                                  nearest.empty() ? "" : absl::StrFormat("did you mean %s? Or ", nearest), wanted));
  }

  std::string DirOf(const std::string& stage) const { return StageDir(recipe_.dir, stage); }

  static absl::Status Refuse(const YamlPlace& place, const StagePlan& plan, const std::string& why) {
    return ErrorAt(place, absl::StrFormat("stage %s: %s", plan.name, why));
  }

  YamlNode common_, stages_;
  Recipe& recipe_;
};

// The groups of a written config that an entry has, indented.
std::string EntryText(const StagePlan& plan) {
  const std::string text = WriteConfig(plan.config);
  std::string entry;
  bool wanted = true;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (!line.starts_with(' ')) wanted = line != "run:" && (plan.from.empty() || line != "model:");
    if (wanted) entry += absl::StrFormat("    %s\n", line);
  }
  return entry;
}

}  // namespace

const StagePlan* Recipe::Find(std::string_view name) const {
  const auto found =
      std::find_if(stages.begin(), stages.end(), [name](const StagePlan& plan) { return plan.name == name; });
  return found == stages.end() ? nullptr : &*found;
}

absl::Status Recipe::CheckHas(std::string_view name) const {
  if (Find(name) != nullptr) return absl::OkStatus();
  if (IsOneRun()) return absl::InvalidArgumentError("the file has no `stages`; leave it out");
  std::string known;
  for (const StagePlan& plan : stages) known += (known.empty() ? "" : ", ") + plan.name;
  if (name.empty()) return absl::InvalidArgumentError("the file has several; give the name of one: " + known);
  return absl::InvalidArgumentError(absl::StrFormat("no stage is named \"%s\"; there are %s", name, known));
}

absl::StatusOr<Recipe> ParseRecipe(std::string_view text, const std::string& name,
                                   std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(YamlNode root, ParseConfigTree(text, name, overrides));
  Recipe recipe;
  if (root.Find("stages") != nullptr) {
    RETURN_IF_ERROR(RecipeReader(std::move(root), recipe).Read());
    return recipe;
  }
  StagePlan& plan = recipe.stages.emplace_back();
  ASSIGN_OR_RETURN(plan.config, ReadConfigTree(root, ""));
  recipe.dir = plan.config.run.dir;
  return recipe;
}

absl::StatusOr<Recipe> LoadRecipe(const std::string& path, std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigText(path));
  return ParseRecipe(text, path, overrides);
}

absl::StatusOr<Config> LoadStage(const std::string& path, std::span<const std::string> overrides,
                                 std::string_view stage) {
  ASSIGN_OR_RETURN(const Recipe recipe, LoadRecipe(path, overrides));
  if (const absl::Status found = recipe.CheckHas(stage); !found.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat("--stage: %s", std::string(found.message())));
  }
  return recipe.Find(stage)->config;
}

std::string WriteRecipe(const Recipe& recipe) {
  if (recipe.IsOneRun()) return WriteConfig(recipe.stages[0].config);
  std::string text = absl::StrFormat("run:\n  dir: %s\nstages:\n", ValueText(recipe.dir));
  for (const StagePlan& plan : recipe.stages) {
    text += absl::StrFormat("  - name: %s\n", ValueText(plan.name));
    if (!plan.from.empty()) text += absl::StrFormat("    from: %s\n", ValueText(plan.from));
    text += absl::StrFormat("    control: %s\n%s", ValueText(plan.control), EntryText(plan));
  }
  return text;
}

}  // namespace conclave::core
