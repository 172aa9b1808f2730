// SPDX-License-Identifier: Apache-2.0
// The sections of report.html, in the order of the page; each is empty where it has nothing to show. A file without
// `stages` is a recipe of one.
#pragma once

#include <string>
#include <vector>

#include "core/config/recipe.h"
#include "launch/report/stage_history.h"
#include "launch/report/stage_row.h"

namespace conclave::launch {

struct Report {
  const core::Recipe& recipe;
  std::vector<StageRow> rows;           // by stage of the recipe
  std::vector<StageHistory> histories;  // the same

  // Of one run that has no name the kind of its stage.
  std::string NameOf(size_t stage) const;
};

std::string Headline(const Report& report);           // what it is, how far it came
std::string ComparisonSection(const Report& report);  // does the method beat its controls?
std::string PictureSection(const Report& report);     // who starts from whom
std::string ScoreSection(const Report& report);       // the table with controls
std::string CurveSections(const Report& report);      // reinforcement learning, losses, expert load
std::string SampleSection(const Report& report);      // the same problems over time
std::string CostSection(const Report& report);        // time and FLOPs by stage
std::string CommandSection(const Report& report);     // how to make each row again
std::string SettingsSection(const Report& report);    // config.yaml

// "<section><h2>title</h2>body</section>"; empty without a body.
std::string Section(const std::string& title, const std::string& body);

}  // namespace conclave::launch
