// SPDX-License-Identifier: Apache-2.0
// Text from a model: samples do not depend on each other or on threads, stdout holds them alone, stderr their speed.
#include <sys/resource.h>

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/terminal.h"
#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

class GenerateCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    run_ = new TinyRun;
    ASSERT_EQ(run_->Train({"train.steps=12", "train.checkpoint_every=0", "train.validate_every=0",
                           "model.max_position_embeddings=100000"})
                  .code,
              0);
  }
  static void TearDownTestSuite() { delete run_; }

  static std::vector<std::string> Arguments(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", run_->Dir()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static Outcome Run(const std::vector<std::string>& more) { return RunConclave(run_->folder(), Arguments(more)); }
  static std::string Text(const std::vector<std::string>& more) {
    const Outcome outcome = Run(more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  }

  // What `--samples 5` prints, put together from runs of one sample each, which are also returned.
  static std::string FiveAlone(std::vector<std::string> arguments, int first, std::vector<std::string>& alone) {
    std::string all;
    arguments.insert(arguments.end(), {"--sample", ""});
    for (int sample = first; sample < first + 5; ++sample) {
      arguments.back() = std::to_string(sample);
      alone.push_back(Text(arguments));
      all += "--- sample " + std::to_string(sample) + "\n" + alone.back();
    }
    return all;
  }

  static TinyRun* run_;
};

TinyRun* GenerateCommand::run_ = nullptr;

TEST_F(GenerateCommand, SameSeedSameTextAndGreedyNeedsNone) {
  const auto generate = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"--prompt", "line ", "--max-tokens", "20"});
    return Text(more);
  };
  EXPECT_EQ(generate({"--seed", "3", "--threads", "1"}), generate({"--seed", "3", "--threads", "2"}));
  EXPECT_NE(generate({"--seed", "3"}), generate({"--seed", "4"}));
  EXPECT_NE(generate({"--seed", "3"}), generate({"--seed", "3", "--sample", "1"}));
  EXPECT_EQ(generate({"--temperature", "0", "--seed", "1"}), generate({"--temperature", "0", "--seed", "2"}));
  EXPECT_EQ(generate({"--temperature", "0"}), generate({"--top-k", "1"}));
  generate({"--chat", "--top-p", "0.9", "--min-p", "0.05"});
}

// The prompt is longer than a piece of its reading.
TEST_F(GenerateCommand, SamplesSideBySideAreThoseOfSingleRuns) {
  const std::string prompt = std::string(90, 'a') + " line ";
  for (const std::vector<std::string>& way :
       std::vector<std::vector<std::string>>{{"--prompt", prompt},
                                             {"--prompt", prompt, "--temperature", "0"},
                                             {"--prompt", prompt, "--chat", "--top-p", "0.9"},
                                             {"--prompt-ids", "5"},
                                             {"--prompt-ids", "1,2,3", "--precision", "bf16"}}) {
    std::vector<std::string> arguments = way;
    arguments.insert(arguments.end(), {"--max-tokens", "20", "--seed", "3"});
    std::vector<std::string> alone;
    const std::string expected = FiveAlone(arguments, 7, alone);
    const bool greedy = std::find(way.begin(), way.end(), "--temperature") != way.end();
    EXPECT_EQ(alone[0] == alone[1], greedy);
    arguments.insert(arguments.end(), {"--samples", "5", "--sample", "7", "--threads", "2"});
    EXPECT_EQ(Text(arguments), expected) << way.back();
  }
}

TEST_F(GenerateCommand, ACacheOfLatentsGivesSamplesOfItsOwnThatDoNotDependOnEachOther) {
  const std::vector<std::string> arguments = {"--prompt", "line ", "--max-tokens", "40",
                                              "--seed",   "3",     "--cache",      "latent"};
  std::vector<std::string> alone, together = arguments;
  const std::string expected = FiveAlone(arguments, 0, alone);
  together.insert(together.end(), {"--samples", "5"});
  EXPECT_EQ(Text(together), expected);
  EXPECT_EQ(Run({"--prompt", "a", "--cache", "latents"}).code, 2);
}

TEST_F(GenerateCommand, ASampleThatEndsLeavesTheOthersAlone) {
  const std::vector<std::string> arguments = {"--prompt-ids", "1,2,3", "--max-tokens", "30"};
  std::vector<std::string> alone;
  FiveAlone(arguments, 0, alone);
  // What sample 1 draws as its fifth token ends samples from now on.
  size_t begin = 0;
  for (int comma = 0; comma < 4; ++comma) begin = alone[1].find(',', begin) + 1;
  const std::string id = alone[1].substr(begin, alone[1].find(',', begin) - begin);
  const std::string path = run_->Dir() + "/checkpoints/step_12/generation_config.json", before = ReadFile(path);
  WriteFile(path, "{\"eos_token_id\": " + id + "}");
  std::vector<std::string> shorter;
  const std::string expected = FiveAlone(arguments, 0, shorter);
  std::vector<std::string> together = arguments;
  together.insert(together.end(), {"--samples", "5"});
  EXPECT_EQ(Text(together), expected);
  WriteFile(path, before);
  EXPECT_LT(shorter[1].size(), alone[1].size());
  EXPECT_NE(std::count_if(shorter.begin(), shorter.end(),
                          [](const std::string& ids) { return std::count(ids.begin(), ids.end(), ',') == 29; }),
            0);  // others go on to the end
}

TEST_F(GenerateCommand, SaysOnStderrHowFastItWas) {
  const Outcome several = Run({"--prompt-ids", "1,2,3", "--max-tokens", "10", "--samples", "4", "--seed", "1"});
  const std::regex whole(R"(3 tokens read in \d+\.\d{3} s, 40 drawn at [\d,]+ tokens/s\n)");
  EXPECT_TRUE(std::regex_match(several.err, whole)) << several.err;
  EXPECT_FALSE(Contains(several.out, "tokens"));
  const Outcome one = Run({"--prompt-ids", "1,2,3", "--max-tokens", "1"});
  EXPECT_TRUE(std::regex_match(one.err, std::regex(R"(3 tokens read in \d+\.\d{3} s, 1 drawn\n)"))) << one.err;
  EXPECT_EQ(Run({"--prompt-ids", "1,2,3", "--max-tokens", "0"}).err, "");
}

// The later turn reads only what the cache does not hold.
TEST_F(GenerateCommand, AConversationSaysItInTheEnd) {
  WriteFile(run_->folder() / "input", "ab\ncd\n");
  const Outcome chat = Program(run_->folder(), Arguments({"--chat", "--max-tokens", "1", "--temperature", "0"}),
                               run_->folder() / "input")
                           .Wait();
  EXPECT_EQ(chat.code, 0) << chat.err;
  std::smatch counts;
  ASSERT_TRUE(std::regex_search(chat.err, counts, std::regex(R"((\d+) tokens read in \S+ s, (\d+) drawn\n$)")))
      << chat.err;
  // <bos> <user> a b <assistant>, then the answer and its end, and <user> c d <assistant>.
  EXPECT_EQ(counts[1], "11");
  EXPECT_EQ(counts[2], "2");
}

TEST_F(GenerateCommand, ATerminalGetsTheSpeedDimmed) {
  Terminal terminal(Arguments({"--prompt", "line ", "--max-tokens", "3", "--seed", "1"}));
  EXPECT_EQ(terminal.Wait(), 0);
  EXPECT_TRUE(Contains(terminal.shown(), "\x1b[2m6 tokens read in ")) << terminal.shown();
}

TEST_F(GenerateCommand, BadPromptsFiltersAndNumbersOfSamplesAreWrongUsage) {
  const TinyRun run;  // one that takes few tokens
  ASSERT_EQ(run.Train({"train.steps=1"}).code, 0);
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--prompt-ids", "1,x"},
                                             {"--prompt-ids", "9999"},
                                             {"--prompt-ids", ""},
                                             {"--prompt", std::string(100, 'a')},
                                             {"--prompt", "a", "--top-p", "0"},
                                             {"--prompt", "a", "--temperature", "-1"},
                                             {"--prompt", "a", "--samples", "2", "--sample", "2147483647"},
                                             {"--chat", "--samples", "2"}}) {
    std::vector<std::string> arguments = {"generate", run.Dir()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = RunConclave(run.folder(), arguments);
    EXPECT_EQ(outcome.code, 2) << more[0] << " " << more[1];
    EXPECT_TRUE(Contains(outcome.err, "error: --")) << outcome.err;  // the option
  }
}

TEST_F(GenerateCommand, ACacheBeyondTheMemoryIsAnErrorWithItsSize) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve more address space than the limit of this test";
#endif
  struct rlimit before = {};
  ::getrlimit(RLIMIT_AS, &before);
  const struct rlimit small = {.rlim_cur = rlim_t{4} << 30, .rlim_max = before.rlim_max};
  ::setrlimit(RLIMIT_AS, &small);  // the program inherits it
  const Outcome outcome = Run({"--prompt-ids", "1,2", "--samples", "4096", "--max-tokens", "90000", "--threads", "1"});
  ::setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "cache of 4096 sequences x 90002 tokens: ")) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "give a smaller --samples or --max-tokens")) << outcome.err;
}

}  // namespace
}  // namespace conclave::launch
