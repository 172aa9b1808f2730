// SPDX-License-Identifier: Apache-2.0
// Restores by several readers: each reads its own ranges and no others, and what is wrong with a file is told with the
// tensor and the rectangle that it costs.
#include <fstream>

#include <gtest/gtest.h>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/manifest.h"
#include "tests/core/checkpoint/checkpoint_parts_test_util.h"

namespace conclave::core {
namespace {

// [1000, 64] of state, by four writers of 250 rows each: four files.
class RestoreByParts : public testing::Test {
 protected:
  std::string Save(int64_t step, float first) {
    GlobalTensor tensor("m", {1000, 64}, first);
    std::vector<SaveRequest> requests(4);
    for (int64_t i = 0; i < 4; ++i) {
      SaveRequest& request = requests[static_cast<size_t>(i)];
      request.parent = folder_.path();
      request.meta.step = step;
      request.optimizer = {{"m", tensor.shape, Rows(250 * i, 250), DType::kF32, tensor.values.data() + 250 * 64 * i}};
    }
    const auto path = SaveParts(requests);
    EXPECT_TRUE(path.ok()) << path.status();
    return path.value_or("");
  }
  static Box Rows(int64_t begin, int64_t count) { return MakeBox({begin, 0}, {count, 64}); }
  static std::string File(const std::string& dir, int shard) {
    return dir + absl::StrFormat("/optimizer/state-%05d-of-00004.safetensors", shard);
  }
  absl::Status Restore(const std::string& dir, const Box& box) {
    values_.assign(static_cast<size_t>(box.Elements()), -1.0f);
    return RestoreState(dir, {{"m", {1000, 64}, box, DType::kF32, values_.data()}});
  }

  const TestFolder folder_;
  std::vector<float> values_;
};

TEST_F(RestoreByParts, OtherBytesOfAFileMayBeAnything) {
  const std::string dir = Save(1, 0.0f);
  // Columns 8 to 16 of rows 200 to 300, out of two files; every byte of the tensor outside them is spoilt.
  const Box wanted = MakeBox({200, 8}, {100, 8});
  for (int shard = 1; shard <= 4; ++shard) {
    std::string bytes = ReadAll(File(dir, shard));
    const size_t data = bytes.size() - 250 * 64 * 4;
    for (size_t i = 0; i < 250 * 64 * 4; ++i) {
      const int64_t row = 250 * (shard - 1) + static_cast<int64_t>(i / 256), column = static_cast<int64_t>(i / 4 % 64);
      if (row < 200 || row >= 300 || column < 8 || column >= 16) bytes[data + i] = '\x7f';
    }
    WriteAll(File(dir, shard), bytes);
  }
  ASSERT_OK(Restore(dir, wanted));
  for (int64_t i = 0; i < 800; ++i) {
    ASSERT_EQ(values_[static_cast<size_t>(i)], static_cast<float>((200 + i / 8) * 64 + 8 + i % 8));
  }
}

TEST_F(RestoreByParts, FilesThatAReaderDoesNotNeedAreNotOpened) {
  const std::string dir = Save(1, 0.0f);
  std::filesystem::remove(File(dir, 1));
  std::filesystem::remove(File(dir, 4));
  EXPECT_TRUE(Restore(dir, Rows(250, 500)).ok());
  EXPECT_EQ(values_.back(), 64.0f * 750 - 1);
}

TEST_F(RestoreByParts, AMissingShardIsNamedWithTensorAndRectangle) {
  const std::string dir = Save(1, 0.0f);
  std::filesystem::remove(File(dir, 2));
  const absl::Status status = Restore(dir, Rows(100, 600));
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  for (const std::string& part : {File(dir, 2), std::string("'m' [250:500, 0:64]")}) {
    EXPECT_TRUE(Contains(status, part)) << status;
    EXPECT_TRUE(Contains(VerifyCheckpoint(dir), part)) << VerifyCheckpoint(dir);
  }
}

TEST_F(RestoreByParts, AShardOfAnotherCutIsNamedWithTensorAndRectangle) {
  const std::string dir = Save(1, 0.0f);
  const TestFolder other;
  SaveRequest small;
  small.parent = other.path();
  float value = 0;
  small.optimizer = {{"m", {1}, MakeBox({0}, {1}), DType::kF32, &value}};
  const std::string foreign = *SaveCheckpoint(small) + "/optimizer/state-00001-of-00001.safetensors";
  WriteAll(File(dir, 3), ReadAll(foreign));
  const absl::Status status = Restore(dir, Rows(700, 100));
  for (const std::string& part : {File(dir, 3), std::string("'m' [700:750, 0:64]"), std::string("manifest says")}) {
    EXPECT_TRUE(Contains(status, part)) << status;
  }
  // Of the right size, but of other rows: the header tells.
  WriteAll(File(dir, 3), ReadAll(File(dir, 4)));
  const absl::Status rows = Restore(dir, Rows(700, 100));
  for (const std::string& part : {File(dir, 3), std::string("'m' [700:750, 0:64]"), std::string("manifest says")}) {
    EXPECT_TRUE(Contains(rows, part)) << rows;
  }
}

TEST_F(RestoreByParts, AShardOfAnotherStepIsFoundByTheReaderWhoseShareItIs) {
  const std::string dir = Save(1, 0.0f), other = Save(2, 0.5f);
  WriteAll(File(dir, 3), ReadAll(File(other, 3)));
  int found = 0;
  for (int part = 0; part < 3; ++part) {
    const absl::Status status = VerifyCheckpoint(dir, {.index = part, .count = 3});
    if (status.ok()) continue;
    ++found;
    for (const std::string& text : {File(dir, 3), std::string("'m' [500:750, 0:64]"), std::string("checksum")}) {
      EXPECT_TRUE(Contains(status, text)) << status;
    }
  }
  EXPECT_EQ(found, 1);
}

// Bytes that this process has read from files so far, or -1.
int64_t BytesRead() {
  std::ifstream io("/proc/self/io");
  std::string key;
  int64_t bytes = -1;
  return io >> key >> bytes && key == "rchar:" ? bytes : -1;
}

TEST_F(RestoreByParts, ReadersTogetherReadEachByteOnce) {
  if (BytesRead() < 0) GTEST_SKIP() << "/proc/self/io cannot be read";
  const std::string dir = Save(1, 0.0f);
  const int64_t tensor = 1000 * 64 * 4, others = 3 * 6000;  // headers and manifest, once per reader
  int64_t before = BytesRead();
  for (const Box& box : {Rows(0, 333), Rows(333, 334), Rows(667, 333)}) ASSERT_OK(Restore(dir, box));
  EXPECT_GE(BytesRead() - before, tensor);
  EXPECT_LT(BytesRead() - before, tensor + others);
  before = BytesRead();
  for (int part = 0; part < 3; ++part) ASSERT_OK(VerifyCheckpoint(dir, {.index = part, .count = 3}));
  EXPECT_LT(BytesRead() - before, tensor + others);
}

}  // namespace
}  // namespace conclave::core
