// SPDX-License-Identifier: Apache-2.0
// conclave: one binary, one subcommand per verb. This file is the table of commands and their options; each command is
// a function of an options struct, in a file of its own. What is wrong with an option ends here, as exit code 2.
#include <stdio.h>
#include <stdlib.h>

#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/status_macros.h"
#include "core/config/help.h"
#include "data/known_vocabularies.h"
#include "launch/check_layouts.h"
#include "launch/command.h"
#include "launch/completion.h"
#include "launch/exit_code.h"
#include "launch/generate.h"
#include "launch/help_formatter.h"
#include "launch/inspect.h"
#include "launch/option_checks.h"
#include "launch/parse_arguments.h"
#include "launch/problem_commands.h"
#include "launch/ranks.h"
#include "launch/reference_page.h"
#include "launch/report_command.h"
#include "launch/schedule.h"
#include "launch/tokenize.h"
#include "launch/train.h"
#include "launch/usage_error.h"
#include "launch/validate_data.h"
#include "launch/verify.h"
#include "parallel/job.h"
#include "parallel/schedule.h"

namespace conclave::launch {
namespace {

void AddTrain(CLI::App& root, TrainOptions& options, parallel::Job& job, Command& command) {
  CLI::App& app =
      *root.add_subcommand("train", "train a model, under mpirun on many ranks; the same command again resumes");
  app.add_option("CONFIG", options.config, "YAML file (its keys: conclave help)")->required()->type_name(kFile);
  app.add_option("OVERRIDES", options.overrides, "changes such as optim.lr=1e-4 data.train.0.path=my.txt")
      ->type_name(kOverride);
  app.add_option("--stage", options.stage, "of a file of stages this one alone; default: all, in their order")
      ->type_name("NAME");
  app.add_option(
         "--jobs", options.jobs,
         "stages of a file that are trained side by side, in processes that share the threads. Never changes a bit")
      ->type_name("N")
      ->capture_default_str()
      ->check(Within<int64_t>(1, 64));
  app.add_flag("--dry-run", options.dry_run,
               "say what would be trained and what memory it takes; the run folder stays as it is");
  AddThreads(app, options.threads,
             "threads of each rank; 0 = all processors, less those that ranks beside it use. Never changes a bit");
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 75 saved after TERM or USR1, 130 saved after Ctrl-C.");
  app.add_flag("--validate-data", options.validate_data, "only read the data, and say what is in it and wrong with it");
  CLI::Option* profile = app.add_flag("--profile", options.profile,
                                      "after some steps, say where their time went: per operation, beside the best "
                                      "that the machine can do; also in profile.jsonl. Never changes a bit");
  profile->excludes("--dry-run")->excludes("--validate-data");
  app.add_option("--trace", options.trace,
                 "write when each rank did what, for ui.perfetto.dev: cells of the schedule, phases, exchanges, waits; "
                 "of the first steps, as far as memory for it goes. Never changes a bit")
      ->type_name(kFile)
      ->excludes("--dry-run")
      ->excludes("--validate-data");
  app.add_option("--profile-steps", options.profile_steps, "steps to measure, after 3 to warm up")
      ->type_name("N")
      ->needs(profile)
      ->capture_default_str()
      ->check(Within<int64_t>(1, 10000));
  app.callback([&] {
    if (!options.validate_data) command.ranks = Command::Ranks::kMany;
    command.run = [&] { return options.validate_data ? ValidateData(options) : Train(options, job); };
  });
}

void AddSampling(CLI::App& app, SamplingOptions& options) {
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return app.add_option(name, value, help)->type_name(type)->capture_default_str();
  };
  add("--temperature", options.temperature, "T", "0 = always the most likely token")->check(Within(0.0, 1e6));
  add("--top-p", options.top_p, "SHARE", "keep the most likely tokens with this share; 1 = all")->check(Above(0, 1));
  add("--top-k", options.top_k, "N", "keep this many of the most likely tokens; 0 = all")
      ->check(Within<int64_t>(0, INT32_MAX));
  add("--min-p", options.min_p, "SHARE", "drop tokens below this share of the most likely one")
      ->check(Within(0.0, 1.0));
  add("--seed", options.seed, "N", "of the random draws")->check(Within<int64_t>(0, INT64_MAX));
  add("--sample", options.sample, "N", "number of the sample: other draws of the same seed")
      ->check(Within<int64_t>(0, INT32_MAX));
  add("--samples", options.samples, "N",
      "samples of one prompt, decoded side by side: --sample and the numbers after it. Several are printed in the end, "
      "each under a line `--- sample K`")
      ->check(Within<int64_t>(1, 4096));
}

void AddGenerate(CLI::App& root, GenerateOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("generate", "write text with a model folder, or chat with it");
  AddFolder(app, options.dir, kAnyFolder);
  CLI::Option* prompt = app.add_option("--prompt", options.prompt, "text to go on from; default: standard input");
  CLI::Option* ids = app.add_option("--prompt-ids", options.prompt_ids, "token ids instead of text; prints ids");
  ids->type_name("1,2,3")->excludes(prompt);
  CLI::Option* chat = app.add_flag("--chat", options.chat,
                                   "the prompt is a user's message; without --prompt a conversation, in a terminal or "
                                   "one message per line of standard input");
  chat->excludes(ids);
  app.add_option("--system", options.system, "chat: message above the conversation")->needs(chat);
  app.add_option("--chat-template", options.chat_template,
                 "chat: auto (what the tokenizer brings), deepseek_v3, deepseek_r1, chatml, llama3, bytes or plain")
      ->needs(chat)
      ->capture_default_str();
  app.add_option(
         "--context", options.context,
         "chat: tokens of a conversation; the oldest turns go when it is full. Default: what the model takes, at "
         "most 4096")
      ->type_name("N")
      ->needs(chat)
      ->check(Within<int64_t>(2, INT32_MAX));
  app.add_option("--max-tokens", options.max_tokens, "most tokens to write; default 128, in a conversation 1024")
      ->type_name("N")
      ->check(Within<int64_t>(0, INT32_MAX));
  AddSampling(app, options.sampling);
  CLI::Option* cache = app.add_option("--cache", options.cache,
                                      "what is kept of earlier tokens: keys and values as in training, or the latents "
                                      "that they are expanded from (multi-head latent attention), which are many times "
                                      "smaller and round differently");
  AddChoices(*cache->capture_default_str(), {"expanded", "latent"});
  AddPrecision(app, options.precision, "default: as the folder is stored");
  AddThreads(app, options.threads);
  app.footer("The last line of standard error: 16 tokens read in 0.021 s, 8,192 drawn at 12,700 tokens/s");
  app.callback([&] { command.run = [&] { return Generate(options); }; });
}

void AddVerify(CLI::App& root, VerifyOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("verify", "compare with what another program computed for this model");
  AddFolder(app, options.dir, "model folder");
  app.add_option("--reference", options.reference, "required: safetensors file with inputs and expected values")
      ->required()
      ->type_name(kFile);
  app.add_option("--dump", options.dump, "write our values under the same names")->type_name(kFile);
  AddPrecision(app, options.precision, "of activations and products; default f32");
  app.add_option("--tolerance", options.tolerance, "of the largest magnitude of each tensor; default 2e-5, bf16: 5e-2")
      ->type_name("SHARE")
      ->check(Above(0, 1e6));
  app.add_flag("--all", options.all, "print every row of the table");
  AddThreads(app, options.threads);
  app.footer("Exit codes: 0 everything within tolerance, 1 not, 2 wrong usage.");
  app.callback([&] { command.run = [&] { return Verify(options); }; });
}

void AddInspect(CLI::App& root, InspectOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("inspect", "what a model folder or checkpoint holds");
  AddFolder(app, options.dir, kAnyFolder);
  app.add_flag("--hash", options.hash, "print one hash over the whole state, and nothing else");
  app.add_flag("--tensors", options.tensors, "list every tensor");
  app.callback([&] { command.run = [&] { return Inspect(options); }; });
}

void AddReport(CLI::App& root, ReportOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand(
      "report", "write report.html of a run or a recipe anew, also while it trains; print the table of a recipe");
  AddFolder(app, options.dir, "run folder");
  app.callback([&] { command.run = [&] { return MakeReport(options); }; });
}

void AddTokenize(CLI::App& root, TokenizeOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("tokenize", "text to token ids and back; count tokens; learn a tokenizer");
  app.add_option("--jsonl", options.jsonl.jsonl,
                 "file whose lines have a text `input`: they are copied with its `ids` and their text, `decoded`")
      ->type_name(kFile);
  app.add_option("--count", options.count.paths, "text or .jsonl, plain, .gz or .zst; folders, patterns: counts tokens")
      ->type_name(kFile);
  app.add_option("--train", options.train.files, "the same: learns a byte-level BPE of --vocab-size tokens")
      ->type_name(kFile);
  app.add_option("--tokenizer", options.tokenizer,
                 "bytes, or a folder or file with a tokenizer.json or a tiktoken vocabulary")
      ->type_name(kFile)
      ->capture_default_str();
  app.add_option("--out", options.out,
                 "--jsonl: file, default standard output; --train: folder for tokenizer.json and the files beside it")
      ->type_name(kFile);
  app.add_option("--vocab-size", options.train.vocab_size,
                 "--train: tokens to learn, with the 256 bytes and the special tokens")
      ->type_name("N")
      ->check(Within<int64_t>(1, INT32_MAX));
  app.add_option("--special", options.train.special_tokens,
                 "--train: special tokens, cut out of the text; the first ends a document")
      ->capture_default_str();
  app.add_option("--pattern", options.train.pattern,
                 "--train: how text is cut into words: " + data::KnownFamilies() + ", or a regular expression")
      ->capture_default_str();
  app.add_option("--field", options.field, "JSONL: the field that holds the text")->capture_default_str();
  AddThreads(app, options.threads);
  app.callback([&] { command.run = [&] { return Tokenize(options); }; });
}

void AddSchedule(CLI::App& root, ScheduleOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("schedule", "what each rank of a pipeline does when, and what the bubble is");
  CLI::Option* name = app.add_option("NAME", options.name, absl::StrJoin(parallel::kScheduleNames, ", "));
  name->required();
  AddChoices(*name, {std::begin(parallel::kScheduleNames), std::end(parallel::kScheduleNames)});
  app.add_option("--ranks", options.ranks, "required: ranks of the pipeline")
      ->required()
      ->type_name("N")
      ->check(Within<int64_t>(1, 1 << 16));
  app.add_option("--micro-batches", options.micro_batches, "required: micro-batches of a step")
      ->required()
      ->type_name("N")
      ->check(Within<int64_t>(1, 1 << 20));
  app.add_option("--virtual-stages", options.virtual_stages, "interleaved: chunks per rank; default 2")
      ->type_name("N")
      ->check(Within<int64_t>(1, 1 << 10));
  app.add_option("--cost", options.cost,
                 "time of a micro-batch in a chunk: forward, input gradient, weight gradient; a fourth number is that "
                 "of a forward and a backward that overlap, else their sum. Default 1,1,1")
      ->type_name("F,I,W")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(Above(0, 1e9));
  app.add_flag("--json", options.json, "one JSON object, with begin and end of every cell");
  app.footer("Actions: 2F0 is the forward of micro-batch 0 at stage 2; I input gradient, W weight gradient, B both.");
  app.callback([&] { command.run = [&] { return PrintSchedule(options); }; });
}

void AddCheckLayouts(CLI::App& root, CheckLayoutsOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("check-layouts", "train a config a few steps in every layout: same bits?");
  app.add_option("CONFIG", options.config, "YAML file (its keys: conclave help)")->required()->type_name(kFile);
  app.add_option("OVERRIDES", options.overrides, "changes such as batch.sequences=48")->type_name(kOverride);
  app.add_option("--ranks", options.ranks, "the most ranks; they are threads of this process")
      ->type_name("N")
      ->capture_default_str()
      ->check(Within<int64_t>(1, 64));
  app.add_option("--steps", options.steps, "optimizer steps in each layout")
      ->type_name("N")
      ->capture_default_str()
      ->check(Within<int64_t>(1, 1000000));
  app.footer("Exit codes: 0 all layouts end in the same bits, 1 not, 2 wrong usage.");
  app.callback([&] { command.run = [&] { return CheckLayouts(options); }; });
}

void PrintText(const std::string& text) { fwrite(text.data(), 1, text.size(), stdout); }

// A topic may be a key or a command; `train` is both, and then the keys come first.
absl::StatusOr<ExitCode> Help(CLI::App& root, const std::string& topic) {
  CLI::App* command = FindCommand(root, topic);
  const absl::StatusOr<std::string> key = core::HelpForKey(topic);
  if (key.ok()) {
    PrintText(*key + (topic.empty()
                          ? "\nconclave help KEY explains one key or the keys of a group, conclave --help the "
                            "commands.\n"
                          : ""));
    if (command != nullptr) PrintText(absl::StrFormat("\nThe command of this name: conclave %s --help\n", topic));
    return ExitCode::kDone;
  }
  if (command == nullptr) return AsUsageError(key.status());
  PrintText(command->help(root.get_name()));
  return ExitCode::kDone;
}

struct HelpOptions {
  std::string topic;
  bool markdown = false;
};

void AddHelp(CLI::App& root, HelpOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("help", "type, unit, default and meaning of a config key");
  app.add_option("KEY", options.topic, "such as optim.lr; none: all groups")->type_name(kKey);
  app.add_flag("--markdown", options.markdown, "print the reference page of all commands and keys");
  app.callback([&] {
    command.run = [&]() -> absl::StatusOr<ExitCode> {
      if (!options.markdown) return Help(root, options.topic);
      PrintText(ReferencePage(root));
      return ExitCode::kDone;
    };
  });
}

void AddCompletion(CLI::App& root, std::string& shell, Command& command) {
  CLI::App& app = *root.add_subcommand("completion", "print a script that completes commands, options and config keys");
  CLI::Option* option = app.add_option("SHELL", shell, "the shell it is for: bash");
  option->required();
  AddChoices(*option, {"bash"});
  app.footer("In this shell: source <(conclave completion bash)");
  app.callback([&] {
    command.run = [&]() -> absl::StatusOr<ExitCode> {
      PrintText(BashCompletion(root));
      return ExitCode::kDone;
    };
  });
}

absl::Status CheckRanks(const Command& command, int ranks) {
  if (ranks == 1 || command.ranks == Command::Ranks::kMany) return absl::OkStatus();
  return UsageError(absl::StrFormat(
      "this command runs on one rank, and %d were started: leave out mpirun or srun (train runs on many)", ranks));
}

absl::StatusOr<ExitCode> RunProgram(int argc, char** argv, parallel::Job& job) {
  CLI::App app("Conclave trains mixture-of-experts models of the DeepSeek-V3 kind, from text to a Hugging Face folder.",
               "conclave");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "print this list");
  app.set_version_flag("--version", std::string("conclave ") + CONCLAVE_VERSION, "print the version");
  app.require_subcommand(1);
  app.footer("conclave COMMAND --help lists the options of a command, conclave help KEY explains a key of a config.");
  Command command;
  TrainOptions train;
  train.version = CONCLAVE_VERSION;
  GenerateOptions generate;
  EvalOptions eval;
  VerifyOptions verify;
  InspectOptions inspect;
  ReportOptions report;
  TokenizeOptions tokenize;
  CheckLayoutsOptions check_layouts;
  ScheduleOptions schedule;
  ReplayOptions replay;
  ScoreOptions score;
  HelpOptions help;
  std::string shell;
  AddTrain(app, train, job, command);
  AddGenerate(app, generate, command);
  AddEval(app, eval, job, command);
  AddVerify(app, verify, command);
  AddInspect(app, inspect, command);
  AddReport(app, report, command);
  AddTokenize(app, tokenize, command);
  AddCheckLayouts(app, check_layouts, command);
  AddSchedule(app, schedule, command);
  AddReplay(app, replay, job, command);
  AddScore(app, score, command);
  AddHelp(app, help, command);
  AddCompletion(app, shell, command);
  if (argc < 2) {
    if (IsFirst(job)) fputs(app.help().c_str(), stderr);
    return ExitCode::kUsage;
  }
  const absl::StatusOr<std::string> shown = ParseArguments(argc, argv, app);
  RETURN_IF_ERROR(job.AgreeOn(shown.status()));
  if (!shown->empty()) {
    if (IsFirst(job)) PrintText(*shown);
    return ExitCode::kDone;
  }
  RETURN_IF_ERROR(job.AgreeOn(CheckRanks(command, job.world().size())));
  return command.run();
}

ExitCode RunOnRanks(int argc, char** argv) {
  const absl::StatusOr<std::unique_ptr<parallel::Job>> job = parallel::Job::Start();
  if (!job.ok()) return ReportError(job.status());
  // Launchers pass the output of ranks on through a terminal of their own, which says nothing of where it goes.
  if ((*job)->world().size() > 1) ::setenv("TERM", "dumb", 1);
  const absl::StatusOr<ExitCode> result = RunProgram(argc, argv, **job);
  (*job)->End(result.status());
  return result.ok() ? *result : ReportError(result.status());
}

}  // namespace
}  // namespace conclave::launch

int main(int argc, char** argv) { return static_cast<int>(conclave::launch::RunOnRanks(argc, argv)); }
