// SPDX-License-Identifier: Apache-2.0
// The commands as a user meets them: exit codes, messages, and what a bad input leads to.
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

constexpr char kFixtures[] = CONCLAVE_SOURCE_DIR "/../shared/fixtures/";

TEST(Command, WithoutOrWithUnknownArgumentsIsWrongUsage) {
  const TemporaryFolder folder;
  EXPECT_EQ(RunConclave(folder, {}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"trian"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"generate"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"train", "a.yaml", "--frobnicate"}).code, 2);
  EXPECT_EQ(RunConclave(folder, {"verify", "a", "--reference", "b", "--precision", "fp4"}).code, 2);
}

TEST(Command, BadValuesAreWrongUsageAndNameTheOption) {
  const TemporaryFolder folder;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"generate", "x", "--top-p", "7"},
                                             {"generate", "x", "--top-p", "nan"},
                                             {"generate", "x", "--temperature", "-1"},
                                             {"generate", "x", "--seed", "1.5"},
                                             {"generate", "x", "--max-tokens", "-1"},
                                             {"generate", "x", "--min-p", "2"},
                                             {"generate", "x", "--sample", "2147483648"},
                                             {"generate", "x", "--samples", "0"},
                                             {"generate", "x", "--samples", "4097"},
                                             {"eval", "x", "--batch", "0", "y"},
                                             {"eval", "x", "--sequence-length", "0", "y"},
                                             {"verify", "x", "--tolerance", "nan", "--reference", "y"},
                                             {"verify", "x", "--precision", "fp4", "--reference", "y"},
                                             {"train", "x", "--threads", "-1"}}) {
    const Outcome outcome = RunConclave(folder, arguments);
    EXPECT_EQ(outcome.code, 2) << arguments[2];
    EXPECT_TRUE(Contains(outcome.err, "error: " + arguments[2] + ": ")) << outcome.err;
  }
}

TEST(Command, MisspeltWordsNameTheNearest) {
  const TemporaryFolder folder;
  EXPECT_TRUE(Contains(RunConclave(folder, {"tran"}).err, "did you mean train?"));
  EXPECT_TRUE(Contains(RunConclave(folder, {"generate", "x", "--topp", "1"}).err, "did you mean --top-p?"));
  EXPECT_TRUE(Contains(RunConclave(folder, {"--verson"}).err, "did you mean --version?"));
  const Outcome key = RunConclave(folder, {"help", "optim.lrr"});
  EXPECT_EQ(key.code, 2);
  EXPECT_TRUE(Contains(key.err, "did you mean optim.lr?")) << key.err;
}

TEST(Command, VersionAndHelpSucceed) {
  const TemporaryFolder folder;
  const Outcome version = RunConclave(folder, {"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("conclave ")) << version.out;
  for (const char* command : {"train", "generate", "eval", "verify", "inspect", "tokenize", "schedule"}) {
    const Outcome help = RunConclave(folder, {command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_TRUE(Contains(help.out, "--help")) << help.out;
  }
  EXPECT_TRUE(Contains(RunConclave(folder, {"help", "optim.lr"}).out, "learning rate"));
}

TEST(Command, FoldersThatAreNoModelsFailWithTheirName) {
  const TemporaryFolder folder;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"inspect", folder / "absent"},
                                             {"generate", folder / "absent", "--prompt", "a"},
                                             {"eval", folder / "", "x.txt"}}) {
    const Outcome outcome = RunConclave(folder, arguments);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(Contains(outcome.err, arguments[1])) << outcome.err;
  }
}

TEST(TrainCommand, UnknownKeyIsWrongUsageAndNamesTheNearest) {
  const TinyRun run;
  const Outcome outcome = run.Train({"optim.larning_rate=1"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
  const Outcome near = run.Train({"train.step=1"});
  EXPECT_EQ(near.code, 2);
  EXPECT_TRUE(Contains(near.err, "steps")) << near.err;
}

TEST(TrainCommand, EveryProblemOfAConfigHasALine) {
  const TinyRun run;
  const Outcome outcome = run.Train({"optim.lr=fast", "train.steps=many"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(Contains(outcome.err, "\noverride \"train.steps=many\": train.steps: ")) << outcome.err;
}

TEST(TrainCommand, DryRunSaysWhatWouldHappenAndWritesNothing) {
  const TinyRun run;
  const Outcome fresh = run.Train({"--dry-run"});
  EXPECT_EQ(fresh.code, 0) << fresh.err;
  for (const char* part : {"new run", "parameters", "active per token", "memory", "64 tokens per step", "1 thread",
                           "seed 1", "precision f32", "conclave "}) {
    EXPECT_TRUE(Contains(fresh.out, part)) << part << "\n" << fresh.out;
  }
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));

  ASSERT_EQ(run.Train({"train.steps=4"}).code, 0);
  // What a killed process left is not even cleared away.
  std::filesystem::create_directory(run.Dir() + "/checkpoints/.tmp_step_9_999999999");
  const auto entries = [&run] {
    std::vector<std::string> list;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run.Dir())) {
      const auto written = entry.last_write_time().time_since_epoch().count();
      list.push_back(entry.path().string() + " " + std::to_string(written));
    }
    std::sort(list.begin(), list.end());
    return list;
  };
  const std::vector<std::string> before = entries();
  EXPECT_TRUE(Contains(run.Train({"--dry-run", "train.steps=8"}).out, "/checkpoints/step_4, step 4"));
  const Outcome conflict = run.Train({"--dry-run", "train.steps=8", "optim.lr=0.5"});
  EXPECT_EQ(conflict.code, 1);
  EXPECT_TRUE(Contains(conflict.err, "optim.lr: 0.003 -> 0.5")) << conflict.err;
  EXPECT_EQ(entries(), before);
}

TEST(TrainCommand, MissingDataFailsWithItsPath) {
  const TinyRun run;
  const Outcome outcome = run.Train({"data.train.0.path=/nowhere/at all.txt"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "/nowhere/at all.txt")) << outcome.err;
}

TEST(TrainCommand, ChangedConfigIsRefusedByKeyAndNothingIsLost) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"train.steps=6"}).code, 0);
  const std::string hash = run.Hash(), metrics = ReadFile(run.Metrics());
  const Outcome outcome = run.Train({"train.steps=9", "optim.lr=0.5"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "optim.lr: 0.003 -> 0.5")) << outcome.err;
  EXPECT_FALSE(Contains(outcome.err, "train.steps:")) << outcome.err;
  EXPECT_EQ(run.Hash(), hash);
  EXPECT_EQ(ReadFile(run.Metrics()), metrics);
  EXPECT_EQ(run.Train({"train.steps=9", "train.keep=1", "train.validate_every=0"}).code, 0);
}

TEST(TrainCommand, AMicroBatchWithoutASizeTakesAtMost8192Tokens) {
  const TinyRun run;
  const std::string large = run.Train({"--dry-run", "batch.micro_sequences=0", "batch.sequences=600"}).out,
                    small = run.Train({"--dry-run", "batch.micro_sequences=0"}).out;
  EXPECT_TRUE(Contains(large, "600 rows of 16, 512 at a time")) << large;
  EXPECT_TRUE(Contains(small, "4 rows of 16, 4 at a time")) << small;
}

TEST(TrainCommand, MicroBatchesMayNotChangeUnderARamp) {
  const TinyRun run;
  const std::vector<std::string> ramp = {"batch.ramp.start=2", "batch.ramp.steps=5"};
  ASSERT_EQ(run.Train({ramp[0], ramp[1], "train.steps=6"}).code, 0);
  const Outcome outcome = run.Train({ramp[0], ramp[1], "batch.micro_sequences=1"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "batch.micro_sequences")) << outcome.err;
}

TEST(TrainCommand, SecondProcessInAFolderIsRefusedByNumber) {
  const TinyRun run;
  Program first(run.folder(), run.TrainArguments({"train.steps=1000000"}));
  ASSERT_TRUE(WaitFor([&] { return !ReadFile(run.Metrics()).empty(); }));
  const TemporaryFolder other;
  const Outcome second = RunConclave(other, run.TrainArguments({"train.steps=1000000"}));
  EXPECT_EQ(second.code, 1);
  EXPECT_TRUE(Contains(second.err, "in use by process " + std::to_string(first.pid()))) << second.err;
  first.Signal(SIGKILL);
  first.Wait();
  EXPECT_EQ(run.Train({"train.steps=30"}).code, 0);  // the lock went with its holder
}

TEST(TrainCommand, MetricsHaveTheFieldsThatScriptsRelyOn) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"train.steps=5"}).code, 0);
  std::istringstream lines(ReadFile(run.Metrics()));
  std::string line;
  for (int step = 1; step <= 5; ++step) {
    ASSERT_TRUE(std::getline(lines, line));
    const nlohmann::json object = nlohmann::json::parse(line);
    EXPECT_EQ(object.at("step"), step);
    EXPECT_EQ(object.at("tokens"), 64);
    for (const char* key : {"loss", "mtp_loss", "grad_norm", "lr", "seconds", "data_seconds", "tokens_per_second",
                            "model_flops_per_second", "balance_loss", "load_imbalance"}) {
      EXPECT_TRUE(object.at(key).is_number()) << key;
    }
    EXPECT_EQ(object.contains("validation_loss"), step == 5);
    EXPECT_EQ(object.contains("bits_per_byte"), step == 5);
  }
  EXPECT_TRUE(Contains(ReadFile(run.Dir() + "/config.yaml"), "vocab_size: 265"));
}

TEST(TrainCommand, VoidStepsAreReportedAndChangeNothing) {
  const TinyRun run;
  // Logits of several hundred and a large weight on their squares: gradients leave the range of the sums.
  const Outcome outcome = run.Train(
      {"train.steps=4", "train.checkpoint_every=2", "train.init_std=10", "optim.z_loss=1000", "optim.clip=0"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "step 4: the loss or a gradient is not finite")) << outcome.err;
  EXPECT_TRUE(Contains(ReadFile(run.Metrics()), "\"grad_norm\": null"));
  const std::string checkpoints = run.Dir() + "/checkpoints/";
  EXPECT_EQ(ReadFile(checkpoints + "step_2/model.safetensors"), ReadFile(checkpoints + "step_4/model.safetensors"));
}

TEST(TrainCommand, FullDiskDoesNotStopTraining) {
  const TinyRun run;
  const std::string disk = run.folder() / "disk";
  std::filesystem::create_directory(disk);
  if (::geteuid() != 0 || ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "mounting a small disk needs root";
  }
  const Outcome outcome = run.Train({"run.dir=" + disk + "/run", "train.steps=9"});
  const std::string metrics = ReadFile(disk + "/run/metrics.jsonl");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "step 4 was not saved")) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "training goes on")) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "the last step could not be saved")) << outcome.err;
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 9);
  EXPECT_TRUE(std::filesystem::is_empty(disk + "/run/checkpoints"));
  ::umount(disk.c_str());
}

TEST(TrainCommand, StartsFromAFolderAndTrainsInBf16) {
  const TinyRun first;
  ASSERT_EQ(first.Train({"train.steps=4"}).code, 0);
  const TemporaryFolder folder;
  WriteFile(folder / "config.yaml",
            "model: {from: \"" + first.Dir() + "/checkpoints/step_4\"}\ndata: {train: [{path: \"" +
                (first.folder() / "text.txt") + "\"}], sequence_length: 16}\nbatch: {sequences: 2}\nprecision: bf16\n" +
                "train: {steps: 3}\nrun: {dir: \"" + (folder / "run") + "\"}\n");
  const Outcome outcome = RunConclave(folder, {"train", folder / "config.yaml"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Outcome inspect = RunConclave(folder, {"inspect", folder / "run"});
  EXPECT_TRUE(Contains(inspect.out, "BF16")) << inspect.out;
  EXPECT_TRUE(Contains(inspect.out, "new, from")) << inspect.out;
  EXPECT_EQ(RunConclave(folder, {"train", folder / "config.yaml"}).code, 0);
}

TEST(EvalCommand, MatchesTheRunsOwnValidationWhateverTheBatch) {
  const TinyRun run;
  const std::string file = run.folder() / "held out.txt";
  WriteFile(file, "line 12 of a text to learn\nline 13 of another text\n");
  ASSERT_EQ(run.Train({"train.steps=3", "data.validation_fraction=0", "data.validation.0.path=" + file}).code, 0);
  const Outcome one = RunConclave(run.folder(), {"eval", run.Dir(), file, "--json", "--batch", "1"});
  const Outcome many = RunConclave(run.folder(), {"eval", run.Dir(), file, "--json", "--batch", "16"});
  ASSERT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.out, many.out);
  const std::string metrics = ReadFile(run.Metrics());
  const size_t last = metrics.rfind('\n', metrics.size() - 2) + 1;
  const nlohmann::json line = nlohmann::json::parse(metrics.substr(last));
  const nlohmann::json eval = nlohmann::json::parse(one.out);
  EXPECT_EQ(eval.at("loss"), line.at("validation_loss"));
  EXPECT_EQ(eval.at("bits_per_byte"), line.at("bits_per_byte"));
}

TEST(VerifyCommand, AcceptsEveryFixture) {
  if (!std::filesystem::exists(kFixtures)) GTEST_SKIP() << "there is no " << kFixtures;
  const TemporaryFolder folder;
  for (const char* name : {"deepseek_v3", "deepseek_v3_mtp", "deepseek_v3_groups_yarn", "deepseek_v3_bf16",
                           "deepseek_v3_fp8", "qwen2", "qwen3", "qwen3_moe", "llama3"}) {
    const std::string dir = std::string(kFixtures) + name;
    const Outcome outcome = RunConclave(folder, {"verify", dir, "--reference", dir + "/reference.safetensors"});
    EXPECT_EQ(outcome.code, 0) << name << "\n" << outcome.out << outcome.err;
  }
}

TEST(VerifyCommand, DumpIsAReferenceThatItAcceptsExactly) {
  if (!std::filesystem::exists(kFixtures)) GTEST_SKIP() << "there is no " << kFixtures;
  const TemporaryFolder folder;
  const std::string dir = std::string(kFixtures) + "deepseek_v3_mtp";
  ASSERT_EQ(
      RunConclave(folder, {"verify", dir, "--reference", dir + "/reference.safetensors", "--dump", folder / "ours"})
          .code,
      0);
  const Outcome outcome =
      RunConclave(folder, {"verify", dir, "--reference", folder / "ours", "--tolerance", "1e-30", "--threads", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  // Against other weights it must fail, and say where.
  const std::string other = std::string(kFixtures) + "deepseek_v3";
  const Outcome wrong = RunConclave(folder, {"verify", other, "--reference", folder / "ours"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_TRUE(Contains(wrong.out, "FAIL")) << wrong.out;
}

TEST(VerifyCommand, BrokenReferenceIsAnError) {
  if (!std::filesystem::exists(kFixtures)) GTEST_SKIP() << "there is no " << kFixtures;
  const TemporaryFolder folder;
  const std::string dir = std::string(kFixtures) + "qwen2";
  WriteFile(folder / "cut", ReadFile(dir + "/reference.safetensors").substr(0, 5000));
  EXPECT_EQ(RunConclave(folder, {"verify", dir, "--reference", folder / "cut"}).code, 1);
  EXPECT_EQ(RunConclave(folder, {"verify", dir, "--reference", folder / "absent"}).code, 1);
}

}  // namespace
}  // namespace conclave::launch
