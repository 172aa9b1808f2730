// SPDX-License-Identifier: Apache-2.0
#include "launch/parse_arguments.h"

#include <sstream>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/config/nearest.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

std::vector<std::string> CommandNames(const CLI::App& root) {
  std::vector<std::string> names;
  for (const CLI::App* command : root.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

// What an argument that no command or option is was meant to be: " (did you mean --top-p?)".
std::string Suggestion(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string_view nearest = core::Nearest(argument.substr(0, argument.find('=')), known);
  return nearest.empty() ? "" : absl::StrFormat("; did you mean %s?", nearest);
}

absl::Status WrongArguments(const CLI::App& root, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = root.get_subcommands();
  const CLI::App& app = parsed.empty() ? root : *parsed.front();
  const std::string name = parsed.empty() ? "conclave" : "conclave " + app.get_name();
  const std::vector<std::string> unknown = root.remaining(/*recurse=*/true);
  const std::string message =
      unknown.empty() ? error.what()
                      : absl::StrFormat("unknown argument %s%s", unknown.front(), Suggestion(app, unknown.front()));
  return UsageError(absl::StrFormat("%s\nAll options: %s --help", message, name));
}

}  // namespace

CLI::App* FindCommand(CLI::App& root, const std::string& name) {
  for (CLI::App* command : root.get_subcommands([](CLI::App*) { return true; })) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

absl::StatusOr<std::string> ParseArguments(int argc, char** argv, CLI::App& app) {
  const std::string first = argv[1];
  if (!first.starts_with('-') && FindCommand(app, first) == nullptr) {
    const std::vector<std::string> names = CommandNames(app);
    const std::string_view nearest = core::Nearest(first, names);
    return UsageError(absl::StrFormat("unknown command %s%s\nAll commands: conclave --help", first,
                                      nearest.empty() ? "" : absl::StrFormat("; did you mean %s?", nearest)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // also --help and --version
    if (error.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) return WrongArguments(app, error);
    std::ostringstream text;
    app.exit(error, text, text);
    return text.str();
  }
  return std::string();
}

}  // namespace conclave::launch
