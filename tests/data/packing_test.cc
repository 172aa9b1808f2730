// SPDX-License-Identifier: Apache-2.0
#include "data/packing.h"

#include <vector>

#include "gtest/gtest.h"

#include "data/token_file_writer.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

using Ids = std::vector<int32_t>;

PackedRows Open(int64_t length, DocumentBorders borders, const TempFolder& folder) {
  auto tokens = TokenFile::Open(folder.Path("tokens.idx"), folder.Path("tokens.bin"));
  EXPECT_TRUE(tokens.ok()) << tokens.status();
  return PackedRows(length, borders, *std::move(tokens));
}

void Write(const TempFolder& folder, const std::vector<Ids>& documents, int64_t vocab_size) {
  const TokenType type = TypeForVocabulary(vocab_size);
  auto writer = TokenFileWriter::Create(folder.Path("tokens"), type);
  for (const Ids& document : documents) {
    std::string bytes;
    AppendIds(document, type, bytes);
    const int64_t size = static_cast<int64_t>(document.size());
    EXPECT_TRUE(writer->Append(bytes, {&size, 1}, TokenFileWriter::First::kNewDocument).ok());
  }
  EXPECT_TRUE(writer->Finish().ok());
}

// Through files: rows are read from where tokens are kept.
PackedRows Pack(int64_t length, DocumentBorders borders, const std::vector<Ids>& documents, int64_t vocab_size = 300) {
  const TempFolder folder;
  Write(folder, documents, vocab_size);
  return Open(length, borders, folder);
}

core::Batch AllRows(const PackedRows& rows, int64_t length) {
  core::Batch batch = PaddingBatch(rows.num_rows(), length);
  for (int64_t row = 0; row < rows.num_rows(); ++row) rows.Fill(row, row, batch);
  return batch;
}

TEST(Packing, CutsTheStreamAndLooksOneTokenFurther) {
  const core::Batch batch = AllRows(Pack(4, DocumentBorders::kOpen, {{1, 2, 3}, {4, 5}, {6, 7, 8, 9, 10}}), 4);
  EXPECT_EQ(batch.tokens, (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0}));
  EXPECT_EQ(batch.labels, (Ids{2, 3, 4, 5, 6, 7, 8, 9, 10, -1, -1, -1}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, -1, -1}));
  EXPECT_EQ(batch.num_labels, 9);
}

TEST(Packing, MasksDocumentsAtTheirBordersAndAtTheRowsBorders) {
  const core::Batch batch = AllRows(Pack(4, DocumentBorders::kMasked, {{1, 2, 3}, {4, 5}, {6, 7, 8, 9, 10}}), 4);
  EXPECT_EQ(batch.tokens, (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0}));
  EXPECT_EQ(batch.labels, (Ids{2, 3, -1, 5, -1, 7, 8, 9, 10, -1, -1, -1}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 0, 0, 0, 1, 2, 0, 1, -1, -1}));
  EXPECT_EQ(batch.num_labels, 7);
}

TEST(Packing, MasksADocumentThatBeginsWithARowOrFillsSeveral) {
  const core::Batch batch = AllRows(Pack(2, DocumentBorders::kMasked, {{1, 2}, {3, 4, 5, 6, 7}, {8}, {9, 10}}), 2);
  EXPECT_EQ(batch.tokens, (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(batch.labels, (Ids{2, -1, 4, 5, 6, 7, -1, -1, 10, -1}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 0, 1, 0, 1, 0, 0, 0, 1}));
}

TEST(Packing, StepsOverEmptyDocuments) {
  const core::Batch batch = AllRows(Pack(4, DocumentBorders::kMasked, {{}, {1, 2}, {}, {}, {3, 4, 5}, {}}), 4);
  EXPECT_EQ(batch.tokens, (Ids{1, 2, 3, 4}));
  EXPECT_EQ(batch.labels, (Ids{2, -1, 4, 5}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 0, 1}));
  EXPECT_EQ(batch.num_labels, 3);
}

TEST(Packing, LeavesOutALastRowWithNothingToPredict) {
  for (const DocumentBorders borders : {DocumentBorders::kOpen, DocumentBorders::kMasked}) {
    EXPECT_EQ(Pack(4, borders, {}).num_rows(), 0);
    EXPECT_EQ(Pack(4, borders, {{1}}).num_rows(), 0);
    EXPECT_EQ(Pack(4, borders, {{1, 2}}).num_rows(), 1);
    EXPECT_EQ(Pack(4, borders, {{1, 2, 3, 4}}).num_rows(), 1);
    EXPECT_EQ(Pack(4, borders, {{1, 2, 3, 4, 5}}).num_rows(), 1);
    EXPECT_EQ(Pack(4, borders, {{1, 2, 3, 4, 5, 6}}).num_rows(), 2);
  }
}

TEST(Packing, HoldsIdsOfLargeVocabularies) {
  const Ids ids = {70000, 65535, 65536, 128000};
  EXPECT_EQ(AllRows(Pack(4, DocumentBorders::kOpen, {ids}, 129280), 4).tokens, ids);
  EXPECT_EQ(AllRows(Pack(2, DocumentBorders::kOpen, {{65535, 0}}, 65536), 2).tokens, (Ids{65535, 0}));
}

TEST(Packing, LabelsEveryPairOfNeighboursOnceWhateverTheRowLength) {
  std::vector<Ids> documents;
  int32_t next = 1;
  for (int64_t size = 1; size < 12; ++size) {
    documents.emplace_back();
    for (int64_t i = 0; i < size; ++i) documents.back().push_back(next++);
  }
  const int64_t num_tokens = next - 1;
  const TempFolder folder;
  Write(folder, documents, 300);
  for (int64_t length = 1; length <= num_tokens + 2; ++length) {
    EXPECT_EQ(AllRows(Open(length, DocumentBorders::kOpen, folder), length).num_labels, num_tokens - 1);
    const core::Batch masked = AllRows(Open(length, DocumentBorders::kMasked, folder), length);
    EXPECT_EQ(masked.num_labels, num_tokens - static_cast<int64_t>(documents.size()));
    for (int64_t at = 0; at < masked.rows * length; ++at) {
      if (masked.labels[at] >= 0) {
        ASSERT_EQ(masked.labels[at], masked.tokens[at] + 1);
      }
      if (masked.positions[at] > 0) {
        ASSERT_EQ(masked.positions[at], masked.positions[at - 1] + 1);
      }
    }
  }
}

}  // namespace
}  // namespace conclave::data
