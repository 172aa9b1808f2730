// SPDX-License-Identifier: Apache-2.0
#include "data/tasks/task_documents.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "data/byte_tokenizer.h"
#include "data/loader.h"
#include "data/source_report.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

core::SourceConfig Source(int64_t count, double worked = 0.25) {
  core::SourceConfig source;
  source.task = "addition";
  source.count = count;
  source.worked = worked;
  return source;
}

std::vector<core::TaskConfig> Tasks(int64_t digits = 3) {
  std::vector<core::TaskConfig> tasks(1);
  tasks[0].name = "addition";
  tasks[0].digits = digits;
  return tasks;
}

TaskDocuments Create(const core::SourceConfig& source, const std::vector<core::TaskConfig>& tasks, uint64_t seed = 1,
                     const std::string& system = "") {
  auto documents = TaskDocuments::Create(source, "data.train.0", tasks, system, seed, DocumentUse::kPretraining);
  EXPECT_TRUE(documents.ok()) << documents.status();
  return *std::move(documents);
}

std::string ReadAll(const TaskDocuments& documents) {
  const auto reader = documents.NewReader();
  std::string all;
  while (true) {
    const auto piece = reader->Next();
    EXPECT_TRUE(piece.ok());
    if (piece->empty()) break;
    all += *piece;
  }
  EXPECT_EQ(reader->file_bytes_read(), documents.count());
  return all;
}

std::unique_ptr<Loader> Load(const core::DataConfig& config, const std::vector<core::TaskConfig>& tasks,
                             uint64_t seed = 1) {
  auto loader = Loader::Create(config, ByteTokenizer(), ByteTokenizer::kVocabSize, seed, {}, tasks);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

size_t NumCacheEntries(const TempFolder& folder) {
  size_t entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.Path("cache/conclave/tokens"))) {
    entries += entry.path().filename() != "sources";
  }
  return entries;
}

TEST(TaskDocuments, ShowTheWayInTheShareThatIsAsked) {
  for (const double share : {0.0, 0.25, 1.0}) {
    const TaskDocuments documents = Create(Source(4000, share), Tasks());
    int worked = 0;
    for (int64_t i = 0; i < documents.count(); ++i) {
      const std::vector<Message> messages = documents.At(i);
      ASSERT_EQ(messages.size(), 2u);
      worked += messages[1].content.starts_with("<think>");
      ASSERT_TRUE(messages[1].content.ends_with("</answer>"));
    }
    EXPECT_NEAR(worked, share * 4000, share == 0.25 ? 120 : 0);
  }
}

TEST(TaskDocuments, AreReadAsLinesOfJson) {
  const std::string system = "Say \"yes\"\n";
  const TaskDocuments documents = Create(Source(20000), Tasks(), 1, system);
  const std::string all = ReadAll(documents);
  std::vector<std::string> lines;
  for (size_t at = 0; at < all.size(); at = all.find('\n', at) + 1) {
    const nlohmann::json line = nlohmann::json::parse(all.substr(at, all.find('\n', at) - at));
    const std::vector<Message> messages = documents.At(static_cast<int64_t>(lines.size()));
    ASSERT_EQ(line["messages"][0]["content"], system);
    ASSERT_EQ(line["messages"][1]["content"], messages[1].content);
    ASSERT_EQ(line["messages"][2]["content"], messages[2].content);
    lines.push_back(messages[1].content);
  }
  EXPECT_EQ(lines.size(), 20000u);
}

TEST(TaskDocuments, FingerprintChangesWithAllThatDecidesThem) {
  std::vector<std::string> prints = {Create(Source(300), Tasks()).Fingerprint()};
  EXPECT_EQ(Create(Source(300), Tasks()).Fingerprint(), prints[0]);
  core::SourceConfig held_out = Source(300);
  held_out.split = "held_out";
  std::vector<core::TaskConfig> share = Tasks();
  share[0].held_out = 0.1000001;
  prints.push_back(Create(Source(301), Tasks()).Fingerprint());
  prints.push_back(Create(Source(300, 0.2500001), Tasks()).Fingerprint());
  prints.push_back(Create(Source(300), Tasks(4)).Fingerprint());
  prints.push_back(Create(Source(300), Tasks(), 2).Fingerprint());
  prints.push_back(Create(Source(300), Tasks(), 1, "S").Fingerprint());
  prints.push_back(Create(held_out, Tasks()).Fingerprint());
  prints.push_back(Create(Source(300), share).Fingerprint());
  for (size_t i = 0; i < prints.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(prints[i], prints[j]) << i << " " << j;
  }
}

TEST(TaskDocuments, BecomeRowsThroughTheTokenCache) {
  const TempFolder folder;
  core::DataConfig config;
  config.train = {Source(500)};
  config.sequence_length = 32;
  const auto loader = Load(config, Tasks());
  EXPECT_NE(loader->Description().find("500 documents"), std::string::npos) << loader->Description();
  std::vector<int32_t> expected, tokens;
  const ByteTokenizer tokenizer;
  const ChatTemplate chat_template = *ChatTemplate::Choose("auto", tokenizer);
  const TaskDocuments documents = Create(Source(500), Tasks());
  for (int64_t i = 0; i < 500; ++i) {
    for (const int32_t id : chat_template.Render(tokenizer, documents.At(i), GenerationPrompt::kNone)) {
      expected.push_back(id);
    }
  }
  // Rows come permuted; their ids say where they stood.
  const core::Batch batch = loader->TrainBatch(0, loader->num_train_rows());
  ASSERT_LE(expected.size(), static_cast<size_t>(batch.rows * 32 + 1));  // a last token alone begins no row
  expected.resize(std::min(expected.size(), static_cast<size_t>(batch.rows * 32)));
  tokens.resize(expected.size(), -1);
  for (int64_t slot = 0; slot < batch.rows; ++slot) {
    for (int64_t i = 0; i < 32; ++i) {
      const auto at = static_cast<size_t>(batch.row_ids[slot] * 32 + i);
      if (at < tokens.size()) tokens[at] = batch.tokens[slot * 32 + i];
    }
  }
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(NumCacheEntries(folder), 1u);
  EXPECT_EQ(Load(config, Tasks())->Fingerprint(), loader->Fingerprint());
  EXPECT_EQ(NumCacheEntries(folder), 1u);
  EXPECT_NE(Load(config, Tasks(4))->Fingerprint(), loader->Fingerprint());
  EXPECT_EQ(NumCacheEntries(folder), 2u);
}

TEST(TaskDocuments, SaysWhatIsMissing) {
  const auto error = [](const core::SourceConfig& source) {
    return std::string(
        TaskDocuments::Create(source, "data.train.0", Tasks(), "", 1, DocumentUse::kPretraining).status().message());
  };
  EXPECT_EQ(error(Source(0)),
            "data.train.0.count: say how many problems of the task become documents, e.g. count: 10000");
  core::SourceConfig other = Source(10);
  other.task = "sorting";
  EXPECT_EQ(error(other), "data.train.0.task: \"sorting\" is not among `tasks`; add {name: sorting} there");
}

TEST(InspectDocuments, CountsThemLikeAFile) {
  const auto report = InspectDocuments(Create(Source(50), Tasks()), "auto", ByteTokenizer(), {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->num_problems, 0);
  EXPECT_EQ(report->file_bytes, report->text_bytes);
  EXPECT_GT(report->num_tokens, 50 * 12);
}

}  // namespace
}  // namespace conclave::data
