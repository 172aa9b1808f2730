// SPDX-License-Identifier: Apache-2.0
#include "data/prompts.h"

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

constexpr char kShared[] = CONCLAVE_SOURCE_DIR "/../shared/data/";

core::SourceConfig PromptFile(const std::string& path) {
  core::SourceConfig source;
  source.path = path;
  return source;
}

core::SourceConfig OfTask(const std::string& task, const std::string& split = "train", int64_t count = 0) {
  core::SourceConfig source;
  source.task = task;
  source.split = split;
  source.count = count;
  return source;
}

// A config of sources and what it refers to.
struct Setting {
  core::DataConfig config;
  std::vector<core::TaskConfig> tasks = std::vector<core::TaskConfig>(2);
  ByteTokenizer tokenizer;

  explicit Setting(std::vector<core::SourceConfig> train, std::vector<core::SourceConfig> validation = {}) {
    config.prompts = std::move(train);
    config.validation = std::move(validation);
    tasks[0].name = "addition";
    tasks[1].name = "word_problem";
  }
  PromptContext Context() const { return {.config = config, .tasks = tasks, .tokenizer = tokenizer}; }
  PromptSet Open(uint64_t seed = 1) const&& = delete;  // what is opened refers to the tokenizer
  PromptSet Open(uint64_t seed = 1) const& {
    auto set = PromptSet::Create(Context(), seed);
    EXPECT_TRUE(set.ok()) << set.status();
    return *std::move(set);
  }
  std::string Error() const { return std::string(PromptSet::Create(Context(), 1).status().message()); }
  std::vector<Prompt> Validation(int64_t most) const {
    auto prompts = ReadValidationPrompts(Context(), most);
    EXPECT_TRUE(prompts.ok()) << prompts.status();
    return *std::move(prompts);
  }
};

TEST(PromptSet, ReadsTheFormsOfGsm8kMathAndPromptAnswer) {
  const TempFolder folder;
  const std::string path = folder.Write("a.jsonl",
                                        "{\"question\": \"Q1\", \"answer\": \"1+1=2 #### no\\n#### 1,024 \"}\n\n"
                                        "{\"problem\": \"Q2\", \"solution\": \"long\", \"answer\": \"\\\\frac12\"}\n"
                                        "{\"prompt\": \"Q3\", \"answer\": 72}\n"
                                        "{\"prompt\": \"Q4\", \"answer\": -1.50, \"other\": [{\"answer\": \"x\"}]}\n"
                                        "{\"question\": \"Q5\", \"answer\": \"plain\"}");
  const Setting setting({PromptFile(path)});
  const PromptSet set = setting.Open();
  const PromptSource& source = set.sources()[0];
  ASSERT_EQ(source.size(), 5);
  const char* const answers[] = {"1,024", "\\frac12", "72", "-1.50", "plain"};
  const int lines[] = {1, 3, 4, 5, 6};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(source.At(i).text, "Q" + std::to_string(i + 1));
    EXPECT_EQ(source.At(i).answer, answers[i]);
    EXPECT_EQ(source.At(i).id, path + ":" + std::to_string(lines[i]));
    EXPECT_EQ(source.At(i).source, path);
  }
  EXPECT_EQ(set.Description(), "5 prompts of " + path);
}

TEST(PromptSet, ReadsNamedFieldsAndTheAnswerBehindItsMark) {
  const TempFolder folder;
  core::SourceConfig source = PromptFile(
      folder.Write("a.jsonl.gz", Gzip("{\"task\": \"T\", \"key\": \"so A: no, A: 7\", \"prompt\": \"not this\"}\n")));
  source.prompt_field = "task";
  source.answer_field = "key";
  source.answer_after = "A:";
  const Setting setting({source});
  const Prompt prompt = setting.Open().At(0);
  EXPECT_EQ(prompt.text, "T");
  EXPECT_EQ(prompt.answer, "7");
}

TEST(PromptSet, ReadsGsm8kAndMath500AsTheyAre) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "no " << kShared;
  Setting setting(
      {PromptFile(std::string(kShared) + "gsm8k/train.jsonl"), PromptFile(std::string(kShared) + "math500/test.jsonl")},
      {PromptFile(std::string(kShared) + "gsm8k/test.jsonl")});
  setting.config.max_prompt_tokens = 4096;
  const PromptSet set = setting.Open();
  EXPECT_EQ(set.sources()[0].size(), 7473);
  EXPECT_EQ(set.sources()[1].size(), 500);
  for (int64_t i = 0; i < 7473; ++i) {
    const std::string answer = set.sources()[0].At(i).answer;
    ASSERT_EQ(answer.find_first_not_of("-0123456789,"), std::string::npos) << answer;
  }
  EXPECT_EQ(set.sources()[1].At(0).answer, "\\left( 3, \\frac{\\pi}{2} \\right)");
  const std::vector<Prompt> test = setting.Validation(5000);
  EXPECT_EQ(test.size(), 1319u);
  EXPECT_TRUE(CheckDisjoint(set, test).ok()) << CheckDisjoint(set, test);
}

TEST(PromptSet, RendersSystemUserAndTheStartOfTheAnswer) {
  const TempFolder folder;
  Setting setting({PromptFile(folder.Write("a.jsonl", "{\"prompt\": \"hi\", \"answer\": \"a\"}"))});
  setting.config.system = "S";
  using B = ByteTokenizer;
  EXPECT_EQ(setting.Open().At(0).ids, (std::vector<int32_t>{B::kBos, 'S', B::kUser, 'h', 'i', B::kAssistant}));
}

TEST(PromptSet, VisitsEveryPromptOncePerEpochInAnOrderOfItsOwn) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += absl::StrFormat("{\"prompt\": \"p%d\", \"answer\": \"a\"}\n", i);
  const Setting setting({PromptFile(folder.Write("a.jsonl", lines))});
  const PromptSet set = setting.Open(), same = setting.Open(), other = setting.Open(2);
  std::vector<std::vector<std::string>> epochs(3);
  for (int64_t draw = 0; draw < 150; ++draw) {
    epochs[draw / 50].push_back(set.At(draw).id);
    EXPECT_EQ(set.At(draw).id, same.At(draw).id);
  }
  for (const auto& epoch : epochs) EXPECT_EQ(std::set(epoch.begin(), epoch.end()).size(), 50u);
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  int equal = 0;
  for (int64_t draw = 0; draw < 50; ++draw) equal += set.At(draw).id == other.At(draw).id;
  EXPECT_LT(equal, 10);
}

TEST(PromptSet, BlendsSourcesByTheirWeights) {
  const TempFolder folder;
  core::SourceConfig file = PromptFile(folder.Write("a.jsonl", "{\"prompt\": \"p\", \"answer\": \"a\"}\n"));
  file.weight = 3;
  const Setting setting({file, OfTask("addition")});
  const PromptSet set = setting.Open();
  int of_file = 0;
  std::set<std::string> problems;
  for (int64_t draw = 0; draw < 400; ++draw) {
    const Prompt prompt = set.At(draw);
    of_file += prompt.source == file.path;
    if (prompt.source == "addition/train") problems.insert(prompt.id + prompt.text);
  }
  EXPECT_EQ(of_file, 300);
  EXPECT_EQ(problems.size(), 100u);
  EXPECT_EQ(set.Description(), "1 prompt of " + file.path + ", addition/train without end");
}

TEST(PromptSet, ACountedTaskComesBackEveryEpoch) {
  const Setting setting({OfTask("addition", "train", 20)});
  const PromptSet set = setting.Open();
  std::set<std::string> first, second;
  for (int64_t draw = 0; draw < 20; ++draw) first.insert(set.At(draw).text), second.insert(set.At(20 + draw).text);
  EXPECT_EQ(first.size(), 20u);
  EXPECT_EQ(first, second);
}

TEST(PromptSet, RefusesOrDropsLongPrompts) {
  const TempFolder folder;
  const std::string path =
      folder.Write("a.jsonl", "{\"prompt\": \"short\", \"answer\": 1}\n{\"prompt\": \"much longer\", \"answer\": 2}\n");
  Setting setting({PromptFile(path)});
  setting.config.max_prompt_tokens = 10;
  EXPECT_EQ(setting.Error(), path +
                                 ":2: the prompt has 14 tokens, more than data.max_prompt_tokens, 10; raise that, or "
                                 "drop longer ones with data.long_prompts: drop");
  setting.config.long_prompts = "drop";
  const PromptSet set = setting.Open();
  EXPECT_EQ(set.sources()[0].size(), 1);
  EXPECT_EQ(set.Description(), "1 prompt of " + path + " (1 too long)");
  setting.config.max_prompt_tokens = 5;
  EXPECT_EQ(setting.Error(),
            "data.prompts.0.path: " + path + ": all 2 prompts are longer than data.max_prompt_tokens, 5; raise that");
}

TEST(PromptSet, ReplacesLongProblemsOfATask) {
  Setting setting({OfTask("word_problem")});
  setting.config.max_prompt_tokens = 125;
  EXPECT_NE(setting.Error().find("more than data.max_prompt_tokens, 125"), std::string::npos) << setting.Error();
  setting.config.long_prompts = "drop";
  const PromptSet set = setting.Open();
  EXPECT_GT(set.sources()[0].num_dropped(), 0);
  std::set<std::string> texts;
  for (int64_t draw = 0; draw < 500; ++draw) {
    const Prompt prompt = set.At(draw);
    EXPECT_LE(prompt.ids.size(), 125u);
    texts.insert(prompt.text);
  }
  EXPECT_GT(texts.size(), 490u);
  setting.config.max_prompt_tokens = 20;
  EXPECT_NE(setting.Error().find("the first 1000 prompts of word_problem/train are longer"), std::string::npos);
}

TEST(PromptSet, SaysWhatIsWrongWithALine) {
  const TempFolder folder;
  const auto error = [&](const std::string& line) {
    const std::string path = folder.Write("a.jsonl", "{\"prompt\": \"fine\", \"answer\": 1}\n" + line);
    const std::string message = Setting({PromptFile(path)}).Error();
    EXPECT_EQ(message.substr(0, path.size() + 3), path + ":2:") << message;
    return message.substr(std::min(path.size() + 4, message.size()));
  };
  EXPECT_EQ(error("{\"prompt\": \"a\", \"gold\": 3}"),
            "no field \"answer\" to compare a response with; the object has: prompt, gold. Name it as answer_field");
  EXPECT_EQ(error("{\"text\": \"a\", \"answer\": 3}"),
            "no field \"prompt\", \"question\", \"problem\"; the object has: text, answer. Name it as prompt_field");
  EXPECT_EQ(error("{\"prompt\": \" \", \"answer\": 3}"), "the field \"prompt\" is empty");
  EXPECT_EQ(error("{\"prompt\": \"a\", \"answer\": \" \"}"),
            "the answer is empty: there is nothing to compare a response with");
  EXPECT_EQ(error("{\"question\": \"a\", \"answer\": \"3 ####\"}"),
            "the answer is empty: there is nothing to compare a response with");
  EXPECT_NE(error("{\"prompt\": \"a\", \"answer\": [3]}").find("the field \"answer\" is an array, not a text"),
            std::string::npos);
  EXPECT_NE(error("{\"prompt\": \"a\", \"answer\": null}").find("the field \"answer\" is null, not a text"),
            std::string::npos);
  EXPECT_NE(error("[\"prompt\"]").find("an array, not a JSON object"), std::string::npos);
  EXPECT_NE(error("7").find("not a JSON object"), std::string::npos);
  EXPECT_NE(error("{\"prompt\": \"a\", \"answer\": \"\xFF\"}"), "");
  EXPECT_NE(error("{\"prompt\": \"a\""), "");
}

TEST(PromptSet, SaysWhatIsWrongWithASource) {
  const TempFolder folder;
  EXPECT_EQ(Setting({}).Error(), "data.prompts: there are none; give e.g. data.prompts: [{path: problems.jsonl}]");
  EXPECT_EQ(Setting({core::SourceConfig()}).Error(), "data.prompts.0: give either path or task");
  EXPECT_EQ(Setting({OfTask("sorting")}).Error(),
            "data.prompts.0.task: \"sorting\" is not among `tasks`; add {name: sorting} there");
  EXPECT_EQ(Setting({OfTask("addition", "test")}).Error(),
            "data.prompts.0.split: \"test\" is not a split; there are train, held_out");
  const std::string text = folder.Write("a.txt", "text"), empty = folder.Write("a.jsonl", "\n\n");
  EXPECT_EQ(Setting({PromptFile(text)}).Error(),
            "data.prompts.0.path: " + text + " is not JSONL; give a .jsonl file, plain, .gz or .zst");
  EXPECT_EQ(Setting({PromptFile(empty)}).Error(), "data.prompts.0.path: " + empty + ": no problem in it");
  EXPECT_NE(Setting({PromptFile("none.jsonl")}).Error().find("relative paths count from"), std::string::npos);
}

TEST(ReadValidationPrompts, TakesSourcesInTurnsAndIsTheSameEachTime) {
  const TempFolder folder;
  const std::string path =
      folder.Write("a.jsonl", "{\"prompt\": \"p1\", \"answer\": 1}\n{\"prompt\": \"p2\", \"answer\": 2}\n");
  const Setting setting({}, {PromptFile(path), OfTask("addition", "held_out")});
  const std::vector<Prompt> prompts = setting.Validation(6);
  ASSERT_EQ(prompts.size(), 6u);
  EXPECT_EQ(prompts[0].text, "p1");
  EXPECT_EQ(prompts[1].id, "addition/held_out/0");
  EXPECT_EQ(prompts[2].text, "p2");
  EXPECT_EQ(prompts[5].id, "addition/held_out/3");
  EXPECT_EQ(setting.Validation(3)[1].text, prompts[1].text);
  EXPECT_EQ(Setting({}, {PromptFile(path)}).Validation(100).size(), 2u);
  EXPECT_TRUE(Setting({}).Validation(100).empty());
}

TEST(CheckDisjoint, RefusesAProblemThatIsTrainedOn) {
  const TempFolder folder;
  const std::string train =
      folder.Write("train.jsonl", "{\"prompt\": \"a\", \"answer\": 1}\n{\"prompt\": \"b\", \"answer\": 1}\n");
  const std::string validation =
      folder.Write("validation.jsonl", "{\"prompt\": \"c\", \"answer\": 1}\n{\"question\": \"b\", \"answer\": 1}\n");
  const auto check = [](const Setting& setting) {
    return std::string(CheckDisjoint(setting.Open(), setting.Validation(100)).message());
  };
  EXPECT_EQ(check(Setting({PromptFile(train)}, {PromptFile(validation)})),
            "data.validation: " + validation + ":2 is trained on, too, as " + train +
                ":2: \"b\". A score on such problems says nothing; take them out of data.prompts or data.validation");
  EXPECT_EQ(check(Setting({OfTask("addition")}, {OfTask("addition", "held_out")})), "");
  EXPECT_EQ(check(Setting({OfTask("addition", "train", 500)}, {OfTask("addition", "held_out")})), "");
  EXPECT_NE(check(Setting({OfTask("addition")}, {OfTask("addition", "train")})).find("as a problem of addition/train"),
            std::string::npos);
}

}  // namespace
}  // namespace conclave::data
