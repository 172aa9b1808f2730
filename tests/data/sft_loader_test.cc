// SPDX-License-Identifier: Apache-2.0
#include "data/sft_loader.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "data/loader.h"
#include "tests/data/temp_folder.h"

namespace conclave::data::sft_loader {
namespace {

constexpr int64_t kVocabSize = 272;

core::SourceConfig File(const std::string& path) {
  core::SourceConfig source;
  source.path = path;
  return source;
}

core::Config Config(const std::vector<core::SourceConfig>& train, int64_t length = 64) {
  core::Config config;
  config.stage = "sft";
  config.data.train = train;
  config.data.sequence_length = length;
  config.data.mask_documents = true;
  return config;
}

core::Config Demos(int64_t count, const std::vector<std::string>& tasks = {"addition"}) {
  core::Config config = Config({});
  config.sft.data = "demos";
  config.sft.count = count;
  for (const std::string& name : tasks) config.tasks.emplace_back().name = name;
  return config;
}

std::unique_ptr<Loader> Load(const core::Config& config) {
  auto loader = CreateSftLoader(config, ByteTokenizer(), kVocabSize);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return loader.ok() ? *std::move(loader) : nullptr;
}

std::string Error(const core::Config& config, int64_t vocab_size = kVocabSize) {
  return std::string(CreateSftLoader(config, ByteTokenizer(), vocab_size).status().message());
}

std::string TextOf(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += id < 0 ? "_" : ByteTokenizer().TokenText(id);
  return text;
}

// Every sample of an epoch as its tokens and its labels ("_": none).
std::vector<std::pair<std::string, std::string>> SamplesOf(const core::Batch& batch) {
  std::vector<std::pair<std::string, std::string>> samples;
  for (size_t at = 0; at < batch.tokens.size(); ++at) {
    if (batch.positions[at] < 0) continue;
    if (batch.positions[at] == 0) samples.emplace_back();
    samples.back().first += TextOf({batch.tokens[at]});
    samples.back().second += TextOf({batch.labels[at]});
  }
  return samples;
}

std::string LabelsOf(const std::string& loss, const std::string& line) {
  const TempFolder folder;
  core::Config config = Config({File(folder.Write("a.jsonl", line))});
  config.sft.loss = loss;
  const auto samples = SamplesOf(Load(config)->TrainBatch(0, 1));
  EXPECT_EQ(samples.size(), 1u);
  return samples[0].second;
}

constexpr char kChat[] = R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},)"
                         R"( {"role": "assistant", "content": "bc"}, {"role": "user", "content": "d"},)"
                         R"( {"role": "assistant", "content": "ef"}]})";

TEST(SftLoader, LearnsTheAnswersWithTheirEnds) {
  // <bos> S <User> a <Assistant> b c <eos> <User> d <Assistant> e f
  EXPECT_EQ(LabelsOf("answers", kChat), "____bc<eos>___ef<eos>");
  EXPECT_EQ(LabelsOf("last", kChat), "__________ef<eos>");
  EXPECT_EQ(LabelsOf("all", kChat), "S<|User|>a<|Assistant|>bc<eos><|User|>d<|Assistant|>ef<eos>");
}

TEST(SftLoader, ReadsPromptAndResponseAndNamedFields) {
  const TempFolder folder;
  core::SourceConfig named = File(folder.Write("b.jsonl", R"({"instruction": "x", "output": "y", "prompt": 1})"));
  named.prompt_field = "instruction";
  named.answer_field = "output";
  const core::SourceConfig pairs = File(folder.Write("a.jsonl.zst", Zstd(R"({"prompt": "hi", "response": "ho"})")));
  core::Config config = Config({pairs, named});
  config.data.system = "S";
  const auto samples = SamplesOf(Load(config)->TrainBatch(0, 2));
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].first, "<bos>S<|User|>hi<|Assistant|>ho");
  EXPECT_EQ(samples[0].second, "_____ho<eos>");
  EXPECT_EQ(samples[1].first, "<bos>S<|User|>x<|Assistant|>y");
}

TEST(SftLoader, ReadsGsm8kAndMathAsTheyAre) {
  const TempFolder folder;
  core::Config config = Config({File(folder.Write("a.jsonl",
                                                  "{\"question\": \"q\", \"answer\": \"w #### 1\"}\n"
                                                  "{\"problem\": \"p\", \"solution\": \"s\", \"answer\": "
                                                  "\"1\"}"))});
  const auto samples = SamplesOf(Load(config)->TrainBatch(0, 1));
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].second, "___w #### 1<eos>");
  EXPECT_EQ(samples[1].second, "___s<eos>");
}

TEST(SftLoader, MakesThinkingOfWhatStandsBeforeAnAnswer) {
  const TempFolder folder;
  core::SourceConfig source =
      File(folder.Write("a.jsonl", R"({"question": "q", "answer": "1+1 #### 2 is\nw\n#### 2"})"));
  source.answer_after = "####";
  const auto samples = SamplesOf(Load(Config({source}))->TrainBatch(0, 1));
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].second, "___<think>1+1 #### 2 is\nw</think><answer>2</answer><eos>");
  source.path = folder.Write("b.jsonl", R"({"question": "q", "answer": "2"})");
  const core::Config config = Config({source});
  EXPECT_EQ(Error(config), source.path + ":1: the field \"answer\" has no \"####\" between thinking and answer");
}

TEST(SftLoader, RefusesValidationThatAsksWhatIsTrainedOn) {
  const TempFolder folder;
  const std::string train = folder.Write("train.jsonl", R"({"prompt": "a", "response": "b"})");
  const std::string validation = folder.Write(
      "validation.jsonl", "{\"prompt\": \"c\", \"response\": \"b\"}\n{\"prompt\": \"a\", \"response\": \"other\"}\n");
  core::Config config = Config({File(train)});
  config.data.validation = {File(validation)};
  EXPECT_EQ(Error(config), "data.validation: " + validation + ":2 asks what is trained on, too, as " + train +
                               ":1; take it out of one of them");
}

TEST(SftLoader, DemonstrationsAreTheFirstWorkedProblemsOfTheTrainSplit) {
  const auto loader = Load(Demos(100));
  EXPECT_NE(loader->Description().find("100 samples"), std::string::npos) << loader->Description();
  const auto samples = SamplesOf(loader->TrainBatch(0, loader->num_train_rows()));
  ASSERT_EQ(samples.size(), 100u);
  std::set<std::string> texts;
  for (const auto& [tokens, labels] : samples) {
    EXPECT_NE(tokens.find("<think>"), std::string::npos);
    EXPECT_TRUE(labels.ends_with("</answer><eos>")) << labels;
    EXPECT_EQ(labels.find("="), std::string::npos) << "the question is not learned";
    texts.insert(tokens);
  }
  EXPECT_EQ(texts.size(), 100u);
  // Fewer are the first of them.
  for (const auto& [tokens, labels] : SamplesOf(Load(Demos(10))->TrainBatch(0, 4))) EXPECT_TRUE(texts.contains(tokens));
}

TEST(SftLoader, SharesDemonstrationsAmongTasks) {
  core::Config config = Demos(5, {"addition", "sorting"});
  const auto loader = Load(config);
  EXPECT_NE(loader->Description().find("5 samples"), std::string::npos) << loader->Description();
}

TEST(SftLoader, IsAFunctionOfSeedAndPositionAndVisitsEveryRowOncePerEpoch) {
  const auto loader = Load(Demos(200)), same = Load(Demos(200));
  const int64_t rows = loader->num_train_rows();
  EXPECT_EQ(loader->Fingerprint(), same->Fingerprint());
  const core::Batch first = loader->TrainBatch(0, rows), second = loader->TrainBatch(rows, rows);
  EXPECT_EQ(first.tokens, same->TrainBatch(0, rows).tokens);
  EXPECT_NE(first.row_ids, second.row_ids);
  EXPECT_EQ(std::set(first.row_ids.begin(), first.row_ids.end()).size(), static_cast<size_t>(rows));
  EXPECT_EQ(std::set(second.row_ids.begin(), second.row_ids.end()).size(), static_cast<size_t>(rows));
  const core::Batch part = loader->TrainBatch(3, 2);
  EXPECT_EQ(part.row_ids, (std::vector<int64_t>{first.row_ids[3], first.row_ids[4]}));
  core::Config other = Demos(200);
  other.train.seed = 2;
  EXPECT_NE(Load(other)->Fingerprint(), loader->Fingerprint());
}

TEST(SftLoader, ValidatesOnHeldOutProblemsOrRows) {
  core::Config config = Demos(100);
  config.data.validation.emplace_back().task = "addition";
  config.data.validation[0].split = "held_out";
  const auto loader = Load(config);
  EXPECT_GT(loader->num_validation_rows(), 0);
  const auto samples = SamplesOf(loader->ValidationBatch(0, loader->num_validation_rows()));
  EXPECT_EQ(samples.size(), 256u);
  EXPECT_GT(loader->validation_bytes(), 256 * 10);
  config.data.validation.clear();
  config.data.validation_fraction = 0.1;
  const auto fraction = Load(config);
  EXPECT_EQ(fraction->num_validation_rows() + fraction->num_train_rows(), Load(Demos(100))->num_train_rows());
  EXPECT_GT(fraction->num_validation_rows(), 0);
}

TEST(SftLoader, RefusesOrDropsSamplesLongerThanARow) {
  const TempFolder folder;
  const std::string path = folder.Write(
      "a.jsonl", "{\"prompt\": \"a\", \"response\": \"bcd\"}\n{\"prompt\": \"a\", \"response\": \"bcde\"}\n");
  core::Config config = Config({File(path)}, 7);  // <bos> <User> a <Assistant> b c d, and <eos> as a label
  EXPECT_EQ(Error(config),
            path +
                ":2: the sample has 9 tokens, more than the 8 that a row of data.sequence_length, 7, can "
                "learn; raise that, or drop longer ones with data.long_prompts: drop");
  config.data.long_prompts = "drop";
  const auto loader = Load(config);
  EXPECT_EQ(loader->Description(), "1 sample, 4 bytes, 1 row of 7 tokens (1 long sample dropped)");
  EXPECT_EQ(TextOf(loader->TrainBatch(0, 1).labels), "___bcd<eos>");
  config.data.sequence_length = 3;
  EXPECT_EQ(Error(config),
            "data.train.0: there is no sample in " + path + " that fits data.sequence_length; raise that");
}

TEST(SftLoader, SaysWhatIsWrongWithALine) {
  const TempFolder folder;
  const auto error = [&](const std::string& line, const std::string& loss = "answers") {
    const std::string path = folder.Write("a.jsonl", std::string(kChat) + "\n" + line);
    core::Config config = Config({File(path)});
    config.sft.loss = loss;
    const std::string message = Error(config);
    EXPECT_EQ(message.substr(0, path.size() + 3), path + ":2:") << message;
    return message.substr(std::min(path.size() + 4, message.size()));
  };
  EXPECT_EQ(error("{\"text\": \"a\"}"),
            "neither a chat in \"messages\" nor \"prompt\" with \"response\"; the object has: text. Name fields as "
            "prompt_field and answer_field");
  EXPECT_EQ(error("{\"prompt\": \"a\", \"response\": [1]}"), "the field \"response\" is an array, not a text");
  EXPECT_EQ(error("{\"prompt\": \"a\", \"response\": \"\"}"),
            "the answer (message 1) is empty: there is nothing to learn");
  EXPECT_EQ(error("{\"messages\": []}"), "the chat has no message");
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "content": "a"}]})"),
            "the assistant says nothing in this chat: there is nothing to learn");
  EXPECT_EQ(error(R"({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]})", "last"),
            "the chat does not end with an answer, which sft.loss: last learns");
  EXPECT_NE(error(R"({"messages": [{"role": "tool", "content": "a"}]})").find("messages.0.role"), std::string::npos);
  EXPECT_NE(error("{\"prompt\": "), "");
}

TEST(SftLoader, SaysWhatIsWrongWithTheConfig) {
  core::Config config = Demos(10);
  config.data.mask_documents = false;
  EXPECT_NE(Error(config).find("data.mask_documents: false does not go with stage sft"), std::string::npos);
  EXPECT_NE(Error(Config({})).find("data.train: there are no samples"), std::string::npos);
  EXPECT_NE(Error(Demos(10), 256).find("data.tokenizer: it has 265 ids"), std::string::npos);
  config = Demos(10);
  config.data.chat_template = "llama3";
  EXPECT_NE(Error(config).find("needs the token <|start_header_id|>"), std::string::npos);
}

}  // namespace
}  // namespace conclave::data::sft_loader
