// SPDX-License-Identifier: Apache-2.0
// --validate-data of stages sft and grpo: what is in problems and samples, and what is wrong with them.
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/tiny_grpo.h"

namespace conclave::launch {
namespace {

using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Outcome Validate(const TinyGrpo& run, Words overrides) {
  overrides.insert(overrides.begin(), "--validate-data");
  const Outcome outcome = run.Train(overrides);
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
  return outcome;
}

void ExpectParts(const Outcome& outcome, int code, const Words& parts) {
  EXPECT_EQ(outcome.code, code) << outcome.err << outcome.out;
  for (const std::string& part : parts) EXPECT_TRUE(Contains(outcome.out, part)) << part << "\n" << outcome.out;
}

TEST(ValidateProblems, CountsThemAndListsAnswersThatCannotBeCompared) {
  const TinyGrpo run;
  const std::string file = run.folder() / "problems.jsonl";
  WriteFile(file,
            "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n"
            "{\"prompt\": \"1+3=\", \"answer\": \"\\\\frac{1\"}\n"
            "{\"prompt\": \"1+30=\", \"answer\": \"31\"}\n"
            "{\"prompt\": \"1+4=\", \"answer\": \"((5\"}\n");
  ExpectParts(Validate(run, {"data.prompts=[{path: \"" + file + "\"}]"}), 0,
              {"data.prompts.0  " + file, "problems        4\n", "prompt tokens   min 7, mean 7.2, max 8\n",
               "broken answers  2, ", file + ":2: the answer ", file + ":4: the answer ", "too long        0, ",
               "example         \"<bos><|User|>1+2=<|Assistant|>\"", "answer \"3\"",
               "data.validation.0  addition/held_out", "without end; of the first 1,000:", "broken answers  0\n",
               "overlap         none of it is trained on", "a run would start"});
  // Only mathematics has to be parsed.
  const Outcome exact = Validate(run, {"data.prompts=[{path: \"" + file + "\"}]", "reward=[{name: exact}]"});
  EXPECT_EQ(exact.code, 0) << exact.err;
  EXPECT_FALSE(Contains(exact.out, "broken answers")) << exact.out;
}

TEST(ValidateProblems, ThatAreTooLongOrBrokenOrHeldOutStopARun) {
  const TinyGrpo run;
  const std::string file = run.folder() / "problems.jsonl", source = "[{path: \"" + file + "\"}]";
  WriteFile(file,
            "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n{\"prompt\": \"one and one and one\", \"answer\": \"3\"}\n");
  ExpectParts(Validate(run, {"data.prompts=" + source}), 1,
              {"problems        1\n", "too long        1, more than 16 tokens",
               "NOT USABLE      " + file + ":2: the prompt has 22 tokens", "a run would not start"});
  ExpectParts(Validate(run, {"data.prompts=" + source, "data.long_prompts=drop"}), 0, {"too long        1, "});
  ExpectParts(Validate(run, {"data.prompts=" + source, "data.validation=" + source, "data.long_prompts=drop"}), 1,
              {"NOT USABLE      data.validation: " + file + ":1 is trained on, too, as " + file + ":1"});
  WriteFile(file, "{\"prompt\": \"1+2=\", \"answer\": \"\"}\n");
  ExpectParts(Validate(run, {"data.prompts=" + source}), 1, {"NOT USABLE      " + file + ":1: the answer is empty"});
}

TEST(ValidateSamples, CountsThemAndWhatIsLearnedOfThem) {
  const TinyGrpo run;
  ExpectParts(Validate(run, {"stage=sft", "sft.data=demos", "sft.count=10", "data.sequence_length=64"}), 0,
              {"sft.data  addition/train", "samples         10\n", "too long        0, ", "learned         ",
               "example         \"<bos><|User|>", "learned \"<think>", "</answer><eos>\"",
               "overlap         none of it is trained on"});
}

TEST(ValidateSamples, ThatAreTooLongOrHeldOutStopARun) {
  const TinyGrpo run;
  const std::string file = run.folder() / "samples.jsonl", source = "[{path: \"" + file + "\"}]";
  WriteFile(file, "{\"prompt\": \"1+2=\", \"response\": \"3\"}\n{\"prompt\": \"1+2=\", \"response\": \"three\"}\n");
  const Words words = {"stage=sft", "data.train=" + source, "data.validation=[]"};
  ExpectParts(Validate(run, words + Words{"data.sequence_length=64"}), 0,
              {"data.train.0  " + file, "samples         2\n", "sample tokens   min 9, mean 11.0, max 13\n"});
  ExpectParts(
      Validate(run, words + Words{"data.sequence_length=10"}), 1,
      {"samples         1\n", "too long        1, ", "NOT USABLE      " + file + ":2: the sample has 13 tokens"});
  ExpectParts(Validate(run, words + Words{"data.sequence_length=64", "data.validation=" + source}), 1,
              {"NOT USABLE      data.validation: " + file + ":1 asks what is trained on, too, as " + file + ":1"});
}

}  // namespace
}  // namespace conclave::launch
