// SPDX-License-Identifier: Apache-2.0
// The script has one part that depends on the commands, a `case` with the flags, the kinds of their values and the
// kinds of the positional arguments of each; a fixed part turns a kind and the text so far into candidates.
#include "launch/completion.h"

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "core/config/key_table.h"
#include "launch/option_checks.h"

namespace conclave::launch {
namespace {

constexpr char kBegin[] = R"(# bash completion for conclave. In this shell: source <(conclave completion bash)
# For all: conclave completion bash > ~/.local/share/bash-completion/completions/conclave
_conclave() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  local flags='' last=''
  local -a positionals=()
  local -A values=()
  COMPREPLY=()
)";

constexpr char kEnd[] = R"(  if ((COMP_CWORD == 1)); then
    _conclave_candidates "$commands" "$current"
  elif [[ $current == '=' ]]; then
    _conclave_candidates FILE ''
  elif [[ $previous == '=' ]]; then
    _conclave_candidates FILE "$current"
  elif [[ -n ${values[$previous]} ]]; then
    _conclave_candidates "${values[$previous]}" "$current"
  elif [[ $current == -* ]]; then
    _conclave_candidates "$flags" "$current"
  else
    local i place=0
    for ((i = 2; i < COMP_CWORD; ++i)); do
      if [[ -n ${values[${COMP_WORDS[i]}]} ]]; then ((++i)); elif [[ ${COMP_WORDS[i]} != -* ]]; then ((++place)); fi
    done
    if ((place >= ${#positionals[@]})); then _conclave_candidates "$last" "$current"
    else _conclave_candidates "${positionals[place]}" "$current"; fi
  fi
}

# KIND TEXT: what may stand where TEXT has begun; a kind that is no name of one is a list of words.
_conclave_candidates() {
  case $1 in
    '' | ANY) ;;
    FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
    FOLDER) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
    KEY) mapfile -t COMPREPLY < <(compgen -W "$_conclave_keys $_conclave_groups" -- "$2") ;;
    KEY=VALUE)
      compopt -o nospace 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -S = -W "$_conclave_keys" -- "$2") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
  esac
}

complete -F _conclave conclave
)";

// What may stand for a value, in the words of the script.
std::string Kind(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (type == kFile || type == kFolder || type == kKey || type == kOverride) return type;
  return IsChoice(option) ? absl::StrReplaceAll(type, {{"|", " "}}) : "ANY";
}

std::string CommandCase(const CLI::App& command) {
  std::string flags, values, positionals, last;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) {
      positionals += absl::StrFormat(" '%s'", Kind(*option));
      // The last one may take any number of words.
      last = option->get_expected_max() >= CLI::detail::expected_max_vector_size ? Kind(*option) : "";
      continue;
    }
    for (const std::string& name : option->get_lnames()) {
      flags += (flags.empty() ? "--" : " --") + name;
      if (TakesValue(*option)) values += absl::StrFormat(" [--%s]='%s'", name, Kind(*option));
    }
  }
  return absl::StrFormat("    %s)\n      flags='%s' last='%s'\n      positionals=(%s)\n      values=(%s) ;;\n",
                         command.get_name(), flags, last, positionals.substr(positionals.empty() ? 0 : 1),
                         values.substr(values.empty() ? 0 : 1));
}

// Keys in two lists: those that have a value, and groups. Entries of lists begin with number 0.
std::string KeyLists() {
  std::string keys, groups;
  for (const core::KeyInfo& key : core::AllKeys()) {
    std::string& list = key.type == "keys" ? groups : keys;
    list += (list.empty() ? "" : " ") + absl::StrReplaceAll(key.path, {{".N.", ".0."}});
  }
  return absl::StrFormat("_conclave_keys='%s'\n_conclave_groups='%s'\n", keys, groups);
}

}  // namespace

std::string BashCompletion(const CLI::App& root) {
  std::string commands, cases;
  for (const CLI::App* command : root.get_subcommands({})) {
    commands += command->get_name() + " ";
    cases += CommandCase(*command);
  }
  return absl::StrFormat("%s  local commands='%s--help --version'\n  case ${COMP_WORDS[1]} in\n%s  esac\n%s%s", kBegin,
                         commands, cases, kEnd, KeyLists());
}

}  // namespace conclave::launch
