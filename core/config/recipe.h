// SPDX-License-Identifier: Apache-2.0
// A file of stages: `stages:` is a list of runs, each written as what it changes of the top level. An entry's maps are
// merged deeply, its lists and values replace those above. `from: NAME` starts a stage with the model that one before
// it ended with, so stages stand in an order in which they can run. A file without `stages` is one run.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"

namespace conclave::core {

struct StagePlan {
  std::string name;  // "": the file has no `stages`
  std::string from;  // the stage it starts from; "": from a folder, or from new weights
  bool control = false;
  Config config;  // complete: run.dir is the stage's own, model.from that of the stage it starts from

  // What an entry has beside the keys of a config.
  template <class V>
  void VisitFields(V& v) {
    v.Field("name", name, "", "of the stage, and of its folder in stages/ of run.dir");
    v.Field("from", from, "",
            "a stage before it whose model it starts from, or a folder (with a slash); empty: model has its sizes");
    v.Field("control", control, "", "true: what stages are compared with; shown apart from them");
  }
};

struct Recipe {
  std::string dir;  // run.dir; stages have stages/NAME in it
  std::vector<StagePlan> stages;

  bool IsOneRun() const { return stages.size() == 1 && stages[0].name.empty(); }
  const StagePlan* Find(std::string_view name) const;  // nullptr if absent
  // An error that says which names there are.
  absl::Status CheckHas(std::string_view name) const;
};

// The folder of a stage, and the other way round: the folder of the recipe that a run is a stage of, "" if of none.
std::string StageDir(std::string_view recipe_dir, std::string_view stage);
std::string_view RecipeDir(std::string_view run_dir);

// Reads and validates all stages. Overrides are as in yaml.h; stages.NAME.KEY=VALUE is one of a stage. Errors name
// file, line and stage.
absl::StatusOr<Recipe> LoadRecipe(const std::string& path, std::span<const std::string> overrides);

// The config of the stage `stage` alone; "" of a file without `stages`.
absl::StatusOr<Config> LoadStage(const std::string& path, std::span<const std::string> overrides,
                                 std::string_view stage);

// The same as LoadRecipe from text; `name` stands in messages.
absl::StatusOr<Recipe> ParseRecipe(std::string_view text, const std::string& name,
                                   std::span<const std::string> overrides);

// All keys of all stages with their values: reads back to the same stages.
std::string WriteRecipe(const Recipe& recipe);

}  // namespace conclave::core
