// SPDX-License-Identifier: Apache-2.0
#include "data/token_file.h"

#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/token_file_writer.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

using Ids = std::vector<int32_t>;
using First = TokenFileWriter::First;

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// An .idx as the format describes it, byte by byte.
std::string Idx(uint8_t type, const std::vector<int32_t>& lengths, const std::vector<int64_t>& offsets,
                const std::vector<int64_t>& borders) {
  return std::string("MMIDIDX\0\0", 9) + Bytes<uint64_t>({1}) + static_cast<char>(type) +
         Bytes<uint64_t>({lengths.size(), borders.size()}) + Bytes(lengths) + Bytes(offsets) + Bytes(borders);
}

absl::StatusOr<TokenFile> Open(const TempFolder& folder, const std::string& idx, const std::string& bin) {
  return TokenFile::Open(folder.Write("t.idx", idx), folder.Write("t.bin", bin));
}

Ids All(const TokenFile& file) {
  Ids ids(static_cast<size_t>(file.num_tokens()));
  file.Read(0, ids);
  return ids;
}

template <class T>
void ExpectReads(uint8_t type) {
  const TempFolder folder;
  const int64_t width = sizeof(T);
  const auto file = Open(folder, Idx(type, {2, 1, 0, 2}, {0, 2 * width, 3 * width, 3 * width}, {0, 2, 2, 4}),
                         Bytes<T>({7, 0, 127, 1, 2}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(All(*file), (Ids{7, 0, 127, 1, 2})) << int{type};
  EXPECT_EQ(file->num_documents(), 3);
  EXPECT_EQ(file->DocumentBegin(0), 0);
  EXPECT_EQ(file->DocumentBegin(1), 3);
  EXPECT_EQ(file->DocumentBegin(2), 3);
  EXPECT_EQ(file->DocumentBegin(3), 5);
  EXPECT_EQ(file->FirstDocumentAfter(2), 1);
  EXPECT_EQ(file->FirstDocumentAfter(3), 3);
  Ids one(1);
  file->Read(2, one);
  EXPECT_EQ(one, Ids{127});
}

TEST(TokenFile, ReadsEveryIntegerType) {
  ExpectReads<uint8_t>(1);
  ExpectReads<int8_t>(2);
  ExpectReads<int16_t>(3);
  ExpectReads<int32_t>(4);
  ExpectReads<int64_t>(5);
  ExpectReads<uint16_t>(8);
}

TEST(TokenFile, TakesNumbersThatAreNoIdsAsMinusOne) {
  const TempFolder folder;
  const auto file =
      Open(folder, Idx(5, {4}, {0}, {0, 1}), Bytes<int64_t>({-5, int64_t{1} << 31, INT32_MAX, INT64_MIN}));
  EXPECT_EQ(All(*file), (Ids{-1, -1, INT32_MAX, -1}));
}

TEST(TokenFile, ReadsWhatItsWriterWrote) {
  const TempFolder folder;
  for (const TokenType type : {TokenType::kUint16, TokenType::kInt32}) {
    auto writer = TokenFileWriter::Create(folder.Path("w"), type);
    ASSERT_TRUE(writer.ok()) << writer.status();
    auto append = [&](const Ids& ids, const std::vector<int64_t>& lengths, First first) {
      std::string bytes;
      AppendIds(ids, type, bytes);
      EXPECT_TRUE(writer->Append(bytes, lengths, first).ok());
    };
    append({1, 2, 3}, {1, 2}, First::kNewDocument);
    append({4, 5, 65499}, {2, 1}, First::kContinues);
    append({}, {}, First::kNewDocument);
    append({7}, {1}, First::kContinues);
    const auto written = writer->Finish();
    ASSERT_TRUE(written.ok()) << written.status();
    const int64_t width = SizeOf(type);
    EXPECT_EQ(ReadBytes(folder.Path("w.idx")), Idx(static_cast<uint8_t>(type), {1, 2, 2, 1, 1},
                                                   {0, width, 3 * width, 5 * width, 6 * width}, {0, 1, 3, 5}));
    const auto file = TokenFile::Open(folder.Path("w.idx"), folder.Path("w.bin"));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(All(*file), (Ids{1, 2, 3, 4, 5, 65499, 7}));
    EXPECT_EQ(file->num_documents(), 3);
    EXPECT_EQ(file->DocumentBegin(2), 5);
    EXPECT_EQ(written->bin.checksum, core::HashFile(folder.Path("w.bin"))->checksum);
    EXPECT_EQ(written->idx.checksum, core::HashFile(folder.Path("w.idx"))->checksum);
    EXPECT_FALSE(core::FileExists(folder.Path("w.lengths")));
  }
}

TEST(TokenFile, UnfinishedLeavesNothingBehind) {
  const TempFolder folder;
  {
    auto writer = TokenFileWriter::Create(folder.Path("w"), TokenType::kUint16);
    const int64_t length = 1;
    EXPECT_TRUE(writer->Append("ab", {&length, 1}, First::kNewDocument).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.Path("")));
}

TEST(TokenFile, MayBeReadOnlyAndHaveModes) {
  const TempFolder folder;
  const std::string idx = folder.Write("m.idx", Idx(8, {1, 1}, {0, 2}, {0, 2}) + std::string("\1\2"));
  const std::string bin = folder.Write("m.bin", "abcd");
  ::chmod(idx.c_str(), 0400), ::chmod(bin.c_str(), 0400);
  const auto file = TokenFile::Open(idx, bin);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->num_tokens(), 2);
}

TEST(TokenFile, HoldsOffsetsOfSeveralGigabytes) {
  const TempFolder folder;
  const int64_t bytes = int64_t{5} << 30;
  const std::string bin = folder.Write("big.bin", "");
  std::filesystem::resize_file(bin, static_cast<uintmax_t>(bytes));  // a hole: takes no room
  const int32_t length = 1 << 30, last = static_cast<int32_t>(bytes / 2 - 2 * int64_t{length});
  const std::string idx =
      folder.Write("big.idx", Idx(8, {length, length, last}, {0, int64_t{2} * length, int64_t{4} * length}, {0, 2, 3}));
  const auto file = TokenFile::Open(idx, bin);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->num_tokens(), bytes / 2);
  EXPECT_EQ(file->DocumentBegin(1), int64_t{2} << 30);
  Ids ids(1, 7);
  file->Read(bytes / 2 - 1, ids);
  EXPECT_EQ(ids[0], 0);
}

TEST(TokenFile, AnEmptyPairHasNoDocuments) {
  const TempFolder folder;
  const auto file = Open(folder, Idx(8, {}, {}, {0}), "");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->num_documents(), 0);
  EXPECT_EQ(file->num_tokens(), 0);
}

TEST(TokenFile, SaysWhatIsWrong) {
  const TempFolder folder;
  const std::string good = Idx(8, {1, 1}, {0, 2}, {0, 1, 2}), bin = "abcd";
  ASSERT_TRUE(Open(folder, good, bin).ok());
  auto with = [&](size_t at, auto value) {
    std::string idx = good;
    std::memcpy(idx.data() + at, &value, sizeof(value));
    return idx;
  };
  struct Case {
    std::string idx, bin, message;
  };
  const std::vector<Case> cases = {
      {"", bin, "t.idx: not a Megatron index"},
      {"MMIDIDX", bin, "t.idx: not a Megatron index"},
      {with(0, 'X'), bin, "t.idx: not a Megatron index"},
      {with(9, uint64_t{2}), bin, "version 2"},
      {with(17, uint8_t{6}), bin, "type code 6"},
      {with(17, uint8_t{255}), bin, "type code -1"},
      {with(18, uint64_t{1} << 60), bin, "sequences and"},
      {with(18, uint64_t{1} << 40), bin, "cut off or damaged"},
      {with(26, uint64_t{0}), bin, "0 document borders"},
      {good.substr(0, good.size() - 1), bin, "cut off or damaged"},
      {good + "xyz", bin, "cut off or damaged"},
      {with(34, int32_t{-1}), bin, "sequence 0 has -1 tokens"},
      {with(34, int32_t{2}), bin, "sequence 1 has 1 tokens at byte 2; expected was byte 4"},
      {with(42, int64_t{2}), bin, "sequence 0 has 1 tokens at byte 2; expected was byte 0"},
      {with(58, int64_t{1}), bin, "document 0 begins at sequence 1"},
      {with(66, int64_t{-1}), bin, "document 1 begins at sequence -1"},
      {with(66, int64_t{3}), bin, "document 1 begins at sequence 3 of 2"},
      {with(74, int64_t{1}), bin, "the last document ends at sequence 1 of 2"},
      {good, "abc", "t.bin: 3 bytes, but sequence 1 of the .idx ends at 4: cut off"},
      {good, "abcdef", "t.bin: 6 bytes, but the sequences of the .idx have 4"},
  };
  for (const Case& test : cases) {
    const auto file = Open(folder, test.idx, test.bin);
    ASSERT_FALSE(file.ok()) << test.message;
    EXPECT_NE(file.status().message().find(test.message), std::string::npos) << file.status();
  }
  EXPECT_FALSE(TokenFile::Open(folder.Path(""), folder.Path("t.bin")).ok());
  EXPECT_FALSE(TokenFile::Open(folder.Path("t.idx"), folder.Path("absent")).ok());
}

}  // namespace
}  // namespace conclave::data
