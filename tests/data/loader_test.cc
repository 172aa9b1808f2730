// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

using Ids = std::vector<int32_t>;

constexpr int64_t kVocabSize = 300;

std::string Words(int count, const std::string& word) {
  std::string text;
  for (int i = 0; i < count; ++i) text += word + std::to_string(i) + " ";
  return text;
}

core::SourceConfig File(const std::string& path) {
  core::SourceConfig source;
  source.path = path;
  return source;
}

core::SourceConfig Random(double weight = 1) {
  core::SourceConfig source;
  source.synthetic = "uniform";
  source.weight = weight;
  return source;
}

core::DataConfig Config(const std::vector<std::string>& train, int64_t length = 16) {
  core::DataConfig config;
  for (const std::string& path : train) config.train.push_back(File(path));
  config.sequence_length = length;
  return config;
}

std::unique_ptr<Loader> Load(const core::DataConfig& config, uint64_t seed = 1) {
  auto loader = Loader::Create(config, ByteTokenizer(), kVocabSize, seed);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return loader.ok() ? std::move(*loader) : nullptr;
}

std::string Error(const core::DataConfig& config, int64_t vocab_size = kVocabSize) {
  return std::string(Loader::Create(config, ByteTokenizer(), vocab_size, 1).status().message());
}

void Append(core::Batch& all, const core::Batch& part) {
  all.rows += part.rows;
  all.num_labels += part.num_labels;
  all.tokens.insert(all.tokens.end(), part.tokens.begin(), part.tokens.end());
  all.positions.insert(all.positions.end(), part.positions.begin(), part.positions.end());
  all.labels.insert(all.labels.end(), part.labels.begin(), part.labels.end());
  all.row_ids.insert(all.row_ids.end(), part.row_ids.begin(), part.row_ids.end());
}

void ExpectEqual(const core::Batch& a, const core::Batch& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.row_ids, b.row_ids);
  EXPECT_EQ(a.num_labels, b.num_labels);
}

TEST(Loader, PutsDocumentsBetweenBosAndEos) {
  const TempFolder folder;
  const auto path = folder.Write("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"\"}\n{\"text\": \"c<eos>\"}\n");
  const auto loader = Load(Config({path}, 20));
  EXPECT_EQ(loader->num_train_rows(), 1);
  const core::Batch batch = loader->TrainBatch(0, 1);
  EXPECT_EQ(batch.tokens, (Ids{256, 'a', 'b', 257, 256, 'c', '<', 'e', 'o', 's', '>', 257, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(loader->Description(), "2 documents, 8 bytes, 1 row of 20 tokens (1 empty document skipped)");
}

TEST(Loader, GivesTheSameRowsHoweverTheStreamIsSplit) {
  const TempFolder folder;
  core::DataConfig config =
      Config({folder.Write("a.txt", Words(90, "a")), folder.Write("b.txt.gz", Gzip(Words(40, "b")))});
  config.train.push_back(Random(0.5));
  config.mask_documents = true;
  const auto loader = Load(config), again = Load(config);
  const int64_t begin = 13, rows = 200;
  const core::Batch whole = loader->TrainBatch(begin, rows);
  for (const int64_t step : {1, 7, 64}) {
    core::Batch parts;
    for (int64_t at = 0; at < rows; at += step) {
      Append(parts, again->TrainBatch(begin + at, std::min(step, rows - at)));
    }
    ExpectEqual(whole, parts);
  }
  EXPECT_EQ(loader->TrainBatch(5, 0).rows, 0);
}

TEST(Loader, VisitsEveryRowOncePerEpochInAnOrderOfItsOwn) {
  const TempFolder folder;
  const auto loader = Load(Config({folder.Write("a.txt", Words(200, "w"))}));
  const int64_t rows = loader->num_train_rows();
  ASSERT_GT(rows, 50);
  std::vector<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    orders.push_back(loader->TrainBatch(epoch * rows, rows).row_ids);
    EXPECT_EQ(std::set<int64_t>(orders[epoch].begin(), orders[epoch].end()).size(), static_cast<size_t>(rows));
    EXPECT_EQ(*std::max_element(orders[epoch].begin(), orders[epoch].end()), rows - 1);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
  EXPECT_FALSE(std::is_sorted(orders[0].begin(), orders[0].end()));
  const auto other_seed = Load(Config({folder.Path("a.txt")}), 2);
  EXPECT_NE(orders[0], other_seed->TrainBatch(0, rows).row_ids);
}

TEST(Loader, BlendsSourcesByWeightAndEachInEpochs) {
  const TempFolder folder;
  core::DataConfig config = Config({folder.Write("a.txt", Words(100, "a")), folder.Write("b.txt", Words(30, "b"))});
  config.train[0].weight = 3;
  const auto loader = Load(config);
  const core::Batch batch = loader->TrainBatch(0, 400);
  std::vector<std::vector<int64_t>> rows(2);
  for (const int64_t id : batch.row_ids) rows[id >> 40].push_back(id & ((int64_t{1} << 40) - 1));
  EXPECT_EQ(rows[0].size(), 300u);
  EXPECT_EQ(rows[1].size(), 100u);
  for (const std::vector<int64_t>& source : rows) {
    const int64_t source_rows = *std::max_element(source.begin(), source.end()) + 1;
    ASSERT_LT(source_rows, static_cast<int64_t>(source.size()));
    const std::set<int64_t> first_epoch(source.begin(), source.begin() + source_rows);
    EXPECT_EQ(static_cast<int64_t>(first_epoch.size()), source_rows);
  }
}

TEST(Loader, ReadsPackedAndPlainFilesAlike) {
  const TempFolder folder;
  const std::string lines = "{\"body\": \"" + Words(50, "x") + "\"}\n{\"body\": \"" + Words(9, "y") + "\"}\n";
  core::DataConfig plain = Config({folder.Write("a.jsonl", lines)}),
                   packed = Config({folder.Write("a.jsonl.gz", Gzip(lines))});
  plain.train[0].field = packed.train[0].field = "body";
  ExpectEqual(Load(plain)->TrainBatch(0, 40), Load(packed)->TrainBatch(0, 40));
}

TEST(Loader, HoldsOutTheLastRowsForValidation) {
  const TempFolder folder;
  core::DataConfig config = Config({folder.Write("a.txt", Words(200, "a")), folder.Write("b.txt", Words(20, "b"))});
  const int64_t all_rows = Load(config)->num_train_rows();
  config.validation_fraction = 0.1;
  const auto loader = Load(config);
  EXPECT_EQ(loader->num_train_rows() + loader->num_validation_rows(), all_rows);
  EXPECT_NEAR(static_cast<double>(loader->num_validation_rows()), 0.1 * static_cast<double>(all_rows), 2);
  const core::Batch validation = loader->ValidationBatch(0, loader->num_validation_rows());
  const core::Batch train = loader->TrainBatch(0, 4 * all_rows);
  std::set<int64_t> seen(train.row_ids.begin(), train.row_ids.end());
  for (const int64_t id : validation.row_ids) EXPECT_TRUE(seen.insert(id).second) << id;
  EXPECT_EQ(static_cast<int64_t>(seen.size()), all_rows);
  EXPECT_TRUE(std::is_sorted(validation.row_ids.begin(), validation.row_ids.end()));
}

TEST(Loader, PrefersItsOwnValidationSourcesInFileOrder) {
  const TempFolder folder;
  core::DataConfig config = Config({folder.Write("a.txt", Words(50, "a"))}, 8);
  const int64_t train_rows = Load(config)->num_train_rows();
  config.validation_fraction = 0.5;
  config.validation = {File(folder.Write("v.txt", "0123456789abcdef")), File(folder.Write("w.txt", "z"))};
  const auto loader = Load(config);
  EXPECT_EQ(loader->num_train_rows(), train_rows);
  EXPECT_EQ(loader->num_validation_rows(), 4);
  const core::Batch all = loader->ValidationBatch(0, 6);
  EXPECT_EQ(all.row_ids, (std::vector<int64_t>{int64_t{1} << 40, (int64_t{1} << 40) + 1, (int64_t{1} << 40) + 2,
                                               int64_t{2} << 40, -1, -1}));
  EXPECT_EQ(all.tokens[0], 256);
  EXPECT_EQ(all.tokens[8], '7');
  EXPECT_EQ(all.tokens[25], 'z');
  core::Batch parts;
  for (const int64_t begin : {0, 3}) Append(parts, loader->ValidationBatch(begin, 3));
  ExpectEqual(all, parts);
  EXPECT_EQ(std::count(all.positions.begin() + 32, all.positions.end(), -1), 16);
}

TEST(Loader, CountsTheBytesThatValidationLabelsStandFor) {
  const TempFolder folder;
  core::DataConfig config;
  // Every byte of the documents is the label of the token before it; <think> is one label of seven bytes.
  const std::string lines = "{\"text\": \"h\\u00e9llo <eos>\"}\n{\"text\": \"a<think>b\"}\n";
  config.validation = {File(folder.Write("v.jsonl", lines))};
  for (const int64_t length : {3, 5, 256}) {
    for (const bool mask : {false, true}) {
      config.sequence_length = length;
      config.mask_documents = mask;
      EXPECT_EQ(Load(config)->validation_bytes(), 12 + 9);
    }
  }
  EXPECT_EQ(Load(config)->num_train_rows(), 0);
  EXPECT_EQ(Load(config)->Description(), "no training data; validation 1 row");
}

TEST(Loader, MakesRandomTokensWithoutEnd) {
  core::DataConfig config;
  config.train = {Random(), Random()};
  config.sequence_length = 37;
  const auto loader = Load(config);
  const core::Batch batch = loader->TrainBatch(1000, 400);
  EXPECT_EQ(batch.num_labels, 400 * 37);
  std::vector<int64_t> counts(kVocabSize, 0);
  for (int64_t row = 0; row < 400; ++row) {
    for (int64_t i = 0; i < 37; ++i) {
      ++counts.at(batch.tokens[row * 37 + i]);
      ASSERT_EQ(batch.positions[row * 37 + i], i);
      if (i > 0) {
        ASSERT_EQ(batch.labels[row * 37 + i - 1], batch.tokens[row * 37 + i]);
      }
    }
    ASSERT_LT(batch.labels[row * 37 + 36], kVocabSize);
  }
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 15);  // mean 49
  EXPECT_LT(*std::max_element(counts.begin(), counts.end()), 100);
  EXPECT_EQ(std::set<int64_t>(batch.row_ids.begin(), batch.row_ids.end()).size(), 400u);
  EXPECT_NE(Ids(batch.tokens.begin(), batch.tokens.begin() + 37),
            Ids(batch.tokens.begin() + 37, batch.tokens.begin() + 74));
  EXPECT_NE(batch.tokens, Load(config, 2)->TrainBatch(1000, 400).tokens);
  EXPECT_GE(loader->num_train_rows(), int64_t{1} << 40);
  EXPECT_EQ(loader->Description(), "random rows of 37 tokens");
}

TEST(Loader, SaysWhatIsWrongAndWhere) {
  const TempFolder folder;
  const std::string good = folder.Write("good.txt", Words(20, "a"));
  core::DataConfig config;
  EXPECT_EQ(Error(config), "data.train: there is no source");
  config = Config({good, folder.Path("missing.txt")});
  EXPECT_NE(Error(config).find("missing.txt: No such file"), std::string::npos);
  config = Config({folder.Write("blank.jsonl", "{\"text\": \"\"}\n")});
  EXPECT_NE(Error(config).find("blank.jsonl: there is no text in it"), std::string::npos);
  config = Config({folder.Write("bom.txt", "\xEF\xBB\xBF")});
  EXPECT_NE(Error(config).find("bom.txt: there is no text in it"), std::string::npos);
  config = Config({folder.Write("bad.jsonl", "{\"text\": \"x\"}\n{\n")});
  EXPECT_NE(Error(config).find("bad.jsonl:2:"), std::string::npos);
  config = Config({good, good});
  config.train[1].weight = 0;
  EXPECT_EQ(Error(config), "data.train.1.weight: 0 is not a positive number");
  config = Config({good});
  config.train[0].synthetic = "normal";
  EXPECT_EQ(Error(config), "data.train.0.synthetic: \"normal\" is not known; there is: uniform");
  config.train[0].synthetic = "uniform";
  EXPECT_EQ(Error(config), "data.train.0: give one of path, task and synthetic");
  config = Config({good});
  config.validation = {Random()};
  EXPECT_EQ(Error(config), "data.validation.0.synthetic: random tokens have no end; validation needs a file");
  EXPECT_EQ(Error(Config({good}), 256),
            "data.train.0: the tokenizer has 265 ids, but model.vocab_size is 256; raise that, or give another "
            "data.tokenizer");
  EXPECT_EQ(Error(Config({good}, 0)), "data.sequence_length: 0 is not positive");
  config = Config({folder.Write("short.txt", "ab")});
  config.validation_fraction = 0.1;
  EXPECT_NE(Error(config).find("data.validation_fraction: no training source has two rows"), std::string::npos);
}

TEST(Loader, ReadsFoldersPatternsAndTokenFilesAsItReadsText) {
  const TempFolder folder;
  folder.Write("d/a.txt", Words(50, "a"));
  folder.Write("d/b.jsonl.zst", Zstd("{\"text\": \"" + Words(9, "b") + "\"}\n{\"text\": \"c\"}\n"));
  const auto text = Load(Config({folder.Path("d")}));
  EXPECT_EQ(text->Description(), "2 files, 3 documents, " +
                                     std::to_string(Words(50, "a").size() + Words(9, "b").size() + 1) + " bytes, " +
                                     std::to_string(text->num_train_rows()) + " rows of 16 tokens");
  ExpectEqual(text->TrainBatch(0, 40), Load(Config({folder.Path("d/*")}))->TrainBatch(0, 40));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.Path("cache"))) {
    if (entry.path().filename() != "tokens.bin") continue;
    std::filesystem::copy_file(entry.path(), folder.Path("t.bin"));
    std::filesystem::copy_file(entry.path().parent_path() / "tokens.idx", folder.Path("t.idx"));
  }
  const auto tokens = Load(Config({folder.Path("t.idx")}));
  ExpectEqual(text->TrainBatch(0, 40), tokens->TrainBatch(0, 40));
  EXPECT_EQ(tokens->Description(), "3 documents, " + std::to_string(text->num_train_rows()) + " rows of 16 tokens");
  EXPECT_NE(Error(Config({folder.Path("t.bin")}), 257).find("t.bin: has token id 257, but model.vocab_size is 257"),
            std::string::npos);
}

TEST(Loader, HasAFingerprintOfTheRowsAndOfNothingElse) {
  const TempFolder folder;
  const core::DataConfig config =
      Config({folder.Write("a.txt", Words(200, "a")), folder.Write("b.txt", Words(20, "b"))});
  const std::string fingerprint = Load(config)->Fingerprint();
  EXPECT_EQ(fingerprint.size(), 32u);
  folder.Write("moved/c.txt.gz", Gzip(Words(200, "a")));
  EXPECT_EQ(Load(Config({folder.Path("moved/c.txt.gz"), folder.Path("b.txt")}), 2)->Fingerprint(), fingerprint);
  std::set<std::string> others = {fingerprint};
  others.insert(Load(Config({folder.Path("b.txt"), folder.Path("a.txt")}))->Fingerprint());
  others.insert(Load(Config({folder.Path("a.txt"), folder.Path("b.txt")}, 17))->Fingerprint());
  core::DataConfig masked = config;
  masked.mask_documents = true;
  others.insert(Load(masked)->Fingerprint());
  folder.Write("b.txt", Words(20, "c"));
  others.insert(Load(config)->Fingerprint());
  EXPECT_EQ(others.size(), 5u);
}

TEST(Loader, PrefetchChangesNothing) {
  const TempFolder folder;
  core::DataConfig config = Config({folder.Write("a.txt", Words(5000, "a"))});
  config.train.push_back(Random());
  const auto loader = Load(config), other = Load(config);
  loader->Prefetch(0, 50);
  loader->Prefetch(int64_t{1} << 30, 3);
  ExpectEqual(loader->TrainBatch(0, 50), other->TrainBatch(0, 50));
}

TEST(Loader, ReadsTinyShakespeare) {
  const std::string path = CONCLAVE_SOURCE_DIR "/../shared/data/tinyshakespeare/input.txt";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  core::DataConfig config = Config({path}, 256);
  config.validation_fraction = 0.05;
  const auto loader = Load(config);
  EXPECT_EQ(loader->Description(), "1 document, 1,115,394 bytes, 4,141 rows of 256 tokens; validation 217 rows");
  EXPECT_EQ(loader->validation_bytes(), 1115394 - 4141 * 256);
}

}  // namespace
}  // namespace conclave::data
