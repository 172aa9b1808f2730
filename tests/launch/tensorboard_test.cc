// SPDX-License-Identifier: Apache-2.0
// Event files against published checksums, and read back by an independent little parser.
#include "launch/tensorboard.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

// Fields of one message: number -> raw values in order.
using Fields = std::multimap<int, std::string>;

uint64_t ReadVarint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

Fields Parse(std::string_view bytes) {
  Fields fields;
  while (!bytes.empty()) {
    const uint64_t key = ReadVarint(bytes);
    std::string value;
    size_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;
    if ((key & 7) == 0) value = std::to_string(ReadVarint(bytes));
    if ((key & 7) == 2) size = ReadVarint(bytes);
    if (size > bytes.size()) throw std::runtime_error("cut off");
    fields.emplace(static_cast<int>(key >> 3), value + std::string(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  return fields;
}

template <class T>
T Load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Messages of a file; stops, as TensorBoard does, at a record that is cut off or damaged.
std::vector<std::string> Records(std::string_view file) {
  std::vector<std::string> records;
  while (file.size() >= 12) {
    const auto length = Load<uint64_t>(file);
    if (Load<uint32_t>(file.substr(8)) != MaskedCrc32c(file.substr(0, 8)) || file.size() < 16 + length) break;
    const std::string_view message = file.substr(12, length);
    if (Load<uint32_t>(file.substr(12 + length)) != MaskedCrc32c(message)) break;
    records.emplace_back(message);
    file.remove_prefix(16 + length);
  }
  return records;
}

TEST(TensorBoard, ChecksumsMatchPublishedVectors) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  const std::string event = std::string("\x1a\x11") + "CRC test, one two";
  ASSERT_EQ(event.size(), 19u);
  EXPECT_EQ(MaskedCrc32c(event), 0x5794d08au);
}

TEST(TensorBoard, EventsReadBack) {
  const Scalar scalars[] = {{"train/loss", 2.5}, {"train/lr", std::nan("")}, {"x", INFINITY}};
  Fields event = Parse(EncodeScalars(12.5, 300, scalars));
  EXPECT_EQ(Load<double>(event.find(1)->second), 12.5);
  EXPECT_EQ(event.find(2)->second, "300");
  const Fields summary = Parse(event.find(5)->second);
  ASSERT_EQ(summary.count(1), 3u);
  auto value = summary.begin();
  EXPECT_EQ(Parse(value->second).find(1)->second, "train/loss");
  EXPECT_EQ(Load<float>(Parse(value->second).find(2)->second), 2.5f);
  EXPECT_TRUE(std::isnan(Load<float>(Parse((++value)->second).find(2)->second)));
  EXPECT_TRUE(std::isinf(Load<float>(Parse((++value)->second).find(2)->second)));
}

TEST(TensorBoard, FileBeginsWithVersionAndSessionStart) {
  const TemporaryFolder folder;
  {
    auto events = EventFile::Create(folder / "tb", 101);
    ASSERT_TRUE(events.ok()) << events.status();
    const Scalar scalar{"loss", 1};
    ASSERT_TRUE(events->Append(101, {&scalar, 1}).ok());
  }
  const std::string path = std::filesystem::directory_iterator(folder / "tb")->path();
  EXPECT_NE(path.find("/events.out.tfevents."), std::string::npos);
  const std::vector<std::string> records = Records(ReadFile(path));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(Parse(records[0]).find(3)->second, "brain.Event:2");
  const Fields start = Parse(records[1]);
  EXPECT_EQ(start.find(2)->second, "101");
  EXPECT_EQ(Parse(start.find(7)->second).find(1)->second, "1");
  EXPECT_EQ(Parse(records[2]).find(2)->second, "101");
}

TEST(TensorBoard, FileCutInARecordKeepsTheRecordsBefore) {
  const std::string one = EncodeRecord(EncodeVersion(1)), two = EncodeRecord(EncodeSessionStart(1, 1));
  for (size_t cut = 0; cut < two.size(); ++cut) EXPECT_EQ(Records(one + two.substr(0, cut)).size(), 1u);
  EXPECT_EQ(Records(one + two).size(), 2u);
}

TEST(TensorBoard, EveryFileHasANameOfItsOwn) {
  const TemporaryFolder folder;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(EventFile::Create(folder / "tb", 1).ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "tb"), std::filesystem::directory_iterator()),
            3);
}

}  // namespace
}  // namespace conclave::launch
