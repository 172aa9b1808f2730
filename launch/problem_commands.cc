// SPDX-License-Identifier: Apache-2.0
#include "launch/problem_commands.h"

#include "data/tasks/task.h"
#include "rl/reward/reward.h"

namespace conclave::launch {
namespace {

// Returns --tasks and --problems.
std::pair<CLI::Option*, CLI::Option*> AddProblems(CLI::App& app, ProblemOptions& options) {
  CLI::Option* tasks = app.add_option("--tasks", options.tasks, "held-out problems of tasks, as a,b");
  tasks->delimiter(',')->allow_extra_args(false);
  AddChoices(*tasks, data::TaskNames());
  CLI::Option* files = app.add_option("--problems", options.files,
                                      "JSON lines with problems and answers: prompt and answer, GSM8K, MATH");
  files->type_name(kFile);
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return app.add_option(name, value, help)->type_name(type);
  };
  add("--prompts", options.problems, "N", "problems, of all sources in turns; default: as the run that made DIR")
      ->check(Within<int64_t>(1, 1 << 20));
  add("--samples", options.samples, "K",
      "of each problem, beside a greedy response: pass@1, 2, 4, ... K, maj@K; default: as the run that made DIR")
      ->check(Within<int64_t>(1, 4096));
  add("--temperature", options.temperature, "T", "of the samples; 0: the greedy response alone; default: as the run")
      ->check(Within(0.0, 1e3));
  add("--max-tokens", options.max_tokens, "N", "of a response; default: as the run")
      ->check(Within<int64_t>(1, 1 << 20));
  add("--seed", options.seed, "S", "of the samples; default: that of all evaluations during training")
      ->check(Within<int64_t>(0, INT64_MAX));
  add("--out", options.out, kFile,
      "write the samples as JSON lines, scored; the greedy ones where there are no others");
  return {tasks, files};
}

}  // namespace

void AddEval(CLI::App& root, EvalOptions& options, parallel::Job& job, Command& command) {
  CLI::App& app = *root.add_subcommand(
      "eval", "perplexity of a model folder on files, or the share of problems it solves, also under mpirun");
  AddFolder(app, options.dir, kAnyFolder);
  app.add_option("FILES", options.words,
                 "text or .jsonl, plain, .gz or .zst; folders, patterns; pairs .bin/.idx. With --tasks or --problems: "
                 "changes of the config such as tasks.digits=4 rollout.top_p=0.9 parallel.pipeline=2")
      ->type_name(kFile);
  const auto [tasks, problems] = AddProblems(app, options.problem);
  const auto of_text = [&, tasks = tasks, problems = problems](CLI::Option* option) {
    option->excludes(tasks)->excludes(problems);
    return option;
  };
  of_text(app.add_option("--sequence-length", options.sequence_length,
                         "text: tokens per row; default: as in training, else at most 1024"))
      ->type_name("N")
      ->check(Within<int64_t>(1, INT32_MAX));
  of_text(app.add_option("--batch", options.batch, "text: rows at a time; never changes a bit"))
      ->type_name("N")
      ->capture_default_str()
      ->check(Within<int64_t>(1, 1 << 20));
  of_text(app.add_option("--field", options.field, "text in JSONL: the field that holds it"))->capture_default_str();
  app.add_option("--tokenizer", options.tokenizer, "bytes, a folder or a tokenizer.json; default: that of DIR")
      ->type_name(kFile);
  app.add_flag("--json", options.json, "one JSON object instead of a table");
  AddPrecision(app, options.precision, "default: that of the run, else as the folder is stored");
  AddThreads(app, options.threads);
  app.callback([&] {
    if (options.problem.Any()) command.ranks = Command::Ranks::kMany;
    command.run = [&] { return Eval(options, job); };
  });
}

void AddReplay(CLI::App& root, ReplayOptions& options, parallel::Job& job, Command& command) {
  CLI::App& app = *root.add_subcommand("replay", "draw a sample of a run again: is it the same, to the bit?");
  app.add_option("RUN", options.dir, "run folder of a stage grpo")->required()->type_name(kFolder);
  app.add_option("--step", options.step, "required: step that learned from the sample")
      ->required()
      ->type_name("N")
      ->check(Within<int64_t>(1, int64_t{1} << 40));
  app.add_option("--sample", options.sample,
                 "required: its number in the file of the step, rollouts/step_N.jsonl, from 0; with --draw among the "
                 "samples of that draw")
      ->required()
      ->type_name("X")
      ->check(Within<int64_t>(0, int64_t{1} << 40));
  app.add_option("--draw", options.draw, "number of a prompt that was drawn, over the whole run, from 0")
      ->type_name("D")
      ->check(Within<int64_t>(0, int64_t{1} << 40));
  app.add_option("--top", options.top, "likeliest tokens shown beside each, from a forward pass")
      ->type_name("K")
      ->capture_default_str()
      ->check(Within<int64_t>(0, 100));
  AddThreads(app, options.threads);
  app.footer("Exit codes: 0 equal to the bit, 1 not, or it cannot be drawn again; 2 wrong usage.");
  app.callback([&] { command.run = [&] { return Replay(options, job); }; });
}

void AddScore(CLI::App& root, ScoreOptions& options, Command& command) {
  CLI::App& app = *root.add_subcommand("score", "what responses in a file are worth, by the rewards of training");
  app.add_option("FILE", options.file, "JSON lines with `response` and `answer`, plain, .gz or .zst")
      ->required()
      ->type_name(kFile);
  options.reward.name = "math";
  options.reward.fallback = "last_number";
  AddChoices(*app.add_option("--reward", options.reward.name, "which one")->capture_default_str(), rl::RewardNames());
  AddChoices(*app.add_option("--fallback", options.reward.fallback,
                             "the answer of a response without <answer> and \\boxed{}: its last number, or none")
                  ->capture_default_str(),
             {"last_number", "none"});
  app.add_option("--language", options.reward.language, "--reward language: en, zh, ru, ...")->capture_default_str();
  app.add_option("--command", options.reward.command,
                 "--reward program: the program and its arguments, which reads and writes JSON lines. Put it last")
      ->type_name(kFile)
      ->expected(1, 1000);
  app.add_option("--timeout", options.reward.timeout_seconds, "--reward program: seconds for a batch of lines")
      ->type_name("SECONDS")
      ->capture_default_str()
      ->check(Above(0, 1e6));
  app.add_option("--out", options.out, "copy each line to this file, with its `reward` and `reason`")->type_name(kFile);
  app.add_flag("--json", options.json, "one JSON object instead of a table");
  AddThreads(app, options.threads);
  app.footer("Exit codes: 0 scored, 1 a line is broken or the program failed on more than half, 2 wrong usage.");
  app.callback([&] { command.run = [&] { return Score(options); }; });
}

}  // namespace conclave::launch
