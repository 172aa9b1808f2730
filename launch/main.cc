// SPDX-License-Identifier: Apache-2.0
// conclave: one binary, one subcommand per verb. This file is the table of commands and their options; each command is
// a function of an options struct, in a file of its own.
#include <stdio.h>

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

#include "core/base/log.h"
#include "core/config/help.h"
#include "launch/eval.h"
#include "launch/exit_code.h"
#include "launch/generate.h"
#include "launch/inspect.h"
#include "launch/train.h"
#include "launch/validate_data.h"
#include "launch/verify.h"

namespace conclave::launch {
namespace {

using Command = std::function<absl::StatusOr<ExitCode>()>;

void AddThreads(CLI::App& app, int& threads) {
  app.add_option("--threads", threads, "threads; 0 = all processors. Never changes a bit")->check(CLI::Range(0, 1024));
}

void AddPrecision(CLI::App& app, std::string& precision) {
  app.add_option("--precision", precision, "f32 | bf16; default: as the folder is stored")
      ->check(CLI::IsMember({"f32", "bf16"}));
}

void AddTrain(CLI::App& root, TrainOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("train", "train a model; the same command again resumes");
  app.add_option("CONFIG", options.config, "YAML file (see: conclave help)")->required();
  app.add_option("OVERRIDES", options.overrides, "changes such as optim.lr=1e-4 data.train.0.path=my.txt");
  AddThreads(app, options.threads);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 75 saved after TERM or USR1, 130 saved after Ctrl-C.");
  app.add_flag("--validate-data", options.validate_data, "only read the data, and say what is in it and wrong with it");
  app.callback([&] { command = [&] { return options.validate_data ? ValidateData(options) : Train(options); }; });
}

void AddGenerate(CLI::App& root, GenerateOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("generate", "write text with a model folder");
  app.add_option("DIR", options.dir, "model folder, or a run folder (its newest checkpoint)")->required();
  app.add_option("--prompt", options.prompt, "text to go on from; default: standard input");
  app.add_option("--prompt-ids", options.prompt_ids, "token ids such as 1,2,3 instead of text; prints ids");
  app.add_flag("--chat", options.chat, "the prompt is a user's message");
  app.add_option("--max-tokens", options.max_tokens, "most tokens to write")->capture_default_str();
  app.add_option("--temperature", options.temperature, "0 = always the most likely token")->capture_default_str();
  app.add_option("--top-p", options.top_p, "keep the most likely tokens with this share; 1 = all")
      ->capture_default_str();
  app.add_option("--top-k", options.top_k, "keep this many of the most likely tokens; 0 = all")->capture_default_str();
  app.add_option("--min-p", options.min_p, "drop tokens below this share of the most likely one")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "of the random draws")->capture_default_str();
  app.add_option("--sample", options.sample, "number of the sample: other draws of the same seed")
      ->capture_default_str();
  AddPrecision(app, options.precision);
  AddThreads(app, options.threads);
  app.callback([&] { command = [&] { return Generate(options); }; });
}

void AddEval(CLI::App& root, EvalOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("eval", "perplexity of a model folder on files");
  app.add_option("DIR", options.dir, "model folder, or a run folder (its newest checkpoint)")->required();
  app.add_option("FILES", options.files, "text or .jsonl, plain, .gz or .zst; folders, patterns; pairs .bin/.idx")
      ->required();
  app.add_option("--sequence-length", options.sequence_length,
                 "tokens per row; default: as in training, else at most 1024")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batch, "rows at a time; never changes a bit")->capture_default_str();
  app.add_option("--field", options.field, "JSONL: the field that holds the text")->capture_default_str();
  app.add_option("--tokenizer", options.tokenizer, "bytes, a folder or a tokenizer.json; default: that of DIR");
  app.add_flag("--json", options.json, "one JSON object instead of a table");
  AddPrecision(app, options.precision);
  AddThreads(app, options.threads);
  app.callback([&] { command = [&] { return Eval(options); }; });
}

void AddVerify(CLI::App& root, VerifyOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("verify", "compare with what another program computed for this model");
  app.add_option("DIR", options.dir, "model folder")->required();
  app.add_option("--reference", options.reference, "safetensors file with inputs and expected values")->required();
  app.add_option("--dump", options.dump, "write our values under the same names");
  app.add_option("--precision", options.precision, "f32 | bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--tolerance", options.tolerance, "of the largest magnitude of each tensor; default 2e-5, bf16: 5e-2")
      ->check(CLI::PositiveNumber);
  app.add_flag("--all", options.all, "print every row of the table");
  AddThreads(app, options.threads);
  app.footer("Exit codes: 0 everything within tolerance, 1 not.");
  app.callback([&] { command = [&] { return Verify(options); }; });
}

void AddInspect(CLI::App& root, InspectOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("inspect", "what a model folder or checkpoint holds");
  app.add_option("DIR", options.dir, "model folder, or a run folder (its newest checkpoint)")->required();
  app.add_flag("--hash", options.hash, "print one hash over the whole state, and nothing else");
  app.add_flag("--tensors", options.tensors, "list every tensor");
  app.callback([&] { command = [&] { return Inspect(options); }; });
}

void AddHelp(CLI::App& root, std::string& key, Command& command) {
  CLI::App& app = *root.add_subcommand("help", "meaning and default of a config key");
  app.add_option("KEY", key, "such as optim.lr; none: all groups");
  app.callback([&] {
    command = [&]() -> absl::StatusOr<ExitCode> {
      fputs(core::HelpForKey(key).c_str(), stdout);
      return ExitCode::kDone;
    };
  });
}

int Main(int argc, char** argv) {
  CLI::App app("Conclave trains mixture-of-experts models of the DeepSeek-V3 kind, from text to a Hugging Face folder.",
               "conclave");
  app.set_version_flag("--version", std::string("conclave ") + CONCLAVE_VERSION);
  app.require_subcommand(1);
  Command command;
  TrainOptions train;
  train.version = CONCLAVE_VERSION;
  GenerateOptions generate;
  EvalOptions eval;
  VerifyOptions verify;
  InspectOptions inspect;
  std::string key;
  AddTrain(app, train, command);
  AddGenerate(app, generate, command);
  AddEval(app, eval, command);
  AddVerify(app, verify, command);
  AddInspect(app, inspect, command);
  AddHelp(app, key, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // also --help and --version
    const int code = app.exit(error);
    return static_cast<int>(code == 0 ? ExitCode::kDone : ExitCode::kUsage);
  }
  const absl::StatusOr<ExitCode> result = command();
  if (result.ok()) return static_cast<int>(*result);
  core::LogError(std::string(result.status().message()));
  return static_cast<int>(ExitCode::kFailed);
}

}  // namespace
}  // namespace conclave::launch

int main(int argc, char** argv) { return conclave::launch::Main(argc, argv); }
