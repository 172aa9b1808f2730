// SPDX-License-Identifier: Apache-2.0
#include "launch/reference_page.h"

#include <algorithm>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "core/config/help.h"
#include "launch/option_checks.h"

namespace conclave::launch {
namespace {

std::string Cell(const std::string& text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

std::string Code(const std::string& text) { return text.empty() ? "" : "`" + Cell(text) + "`"; }

// "--threads N", "CONFIG"; a flag has no value.
std::string NameAndValue(const CLI::Option& option) {
  if (option.get_positional()) return option.get_name(true);
  const std::string name = option.get_name(false, true);
  return TakesValue(option) ? name + " " + option.get_type_name() : name;
}

std::string Usage(const CLI::App& command) {
  std::string usage = "conclave " + command.get_name() + " [OPTIONS]";
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    const bool many = option->get_expected_max() >= CLI::detail::expected_max_vector_size;
    const std::string name = option->get_name(true) + (many ? "..." : "");
    usage += option->get_required() ? " " + name : " [" + name + "]";
  }
  return usage;
}

std::string CommandSection(const CLI::App& command) {
  std::string section = absl::StrFormat("\n### conclave %s\n\n%s.\n\n```\n%s\n```\n\n| option | default | meaning |\n",
                                        command.get_name(), command.get_description(), Usage(command));
  section += "|---|---|---|\n";
  std::vector<const CLI::Option*> options = command.get_options();
  std::stable_partition(options.begin(), options.end(), [](const CLI::Option* o) { return o->get_positional(); });
  for (const CLI::Option* option : options) {
    section += absl::StrFormat("| %s | %s | %s |\n", Code(NameAndValue(*option)), Code(option->get_default_str()),
                               Cell(option->get_description()));
  }
  if (!command.get_footer().empty()) section += "\n" + command.get_footer() + "\n";
  return section;
}

}  // namespace

std::string ReferencePage(const CLI::App& root) {
  std::string page =
      "# Reference\n\n"
      "Every command and every key of a config file, as the program itself states them. Written by\n"
      "`conclave help --markdown > configs/README.md`; a test says when it is out of date.\n\n"
      "## Commands\n";
  for (const CLI::App* command : root.get_subcommands({})) page += CommandSection(*command);
  page +=
      "\n## Config keys\n\n"
      "A config is a YAML file of these keys; what is not given has its default. `conclave train CONFIG a.b=c` "
      "changes\n"
      "single values, and `conclave help KEY` explains one key. N counts the entries of a list from 0.\n";
  return page + core::KeyTables();
}

}  // namespace conclave::launch
