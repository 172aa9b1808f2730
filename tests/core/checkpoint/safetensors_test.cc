// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

SafetensorsWriteEntry F32(std::string name, std::vector<int64_t> shape, const std::vector<float>& values,
                          DType stored = DType::kF32) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .data = values.data(),
          .source = DType::kF32,
          .stored = stored};
}

TEST(Safetensors, ReturnsTheBytesOfEveryDtypeItWrites) {
  const TestFolder folder;
  const std::vector<float> floats = {1.5f, -0.0f, std::numeric_limits<float>::denorm_min(), 3.0e38f};
  const std::vector<int32_t> ints = {1, -2, std::numeric_limits<int32_t>::min()};
  const std::vector<int64_t> longs = {1, -2, std::numeric_limits<int64_t>::max()};
  const std::vector<double> doubles = {1e300, -1.0 / 3};
  const std::vector<uint8_t> bytes = {0, 1, 255};
  const std::vector<SafetensorsWriteEntry> tensors = {
      F32("z.f32", {2, 2}, floats),
      F32("scalar", {}, floats),
      F32("empty", {3, 0, 2}, {}),
      {"i32", {3}, ints.data(), DType::kI32, DType::kI32},
      {"i64", {3, 1}, longs.data(), DType::kI64, DType::kI64},
      {"f64", {2}, doubles.data(), DType::kF64, DType::kF64},
      {"u8", {3}, bytes.data(), DType::kU8, DType::kU8},
      {"f8", {1, 3}, bytes.data(), DType::kF8E4M3, DType::kF8E4M3},
  };
  ASSERT_OK(WriteSafetensors(folder.File("x.safetensors"), tensors, {{"note", "two \"words\"\n"}}).status());
  const auto file = SafetensorsFile::Open(folder.File("x.safetensors"));
  ASSERT_OK(file.status());
  EXPECT_EQ(file->metadata().at("note"), "two \"words\"\n");
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->entries().size(), tensors.size());
  EXPECT_TRUE(
      std::is_sorted(file->entries().begin(), file->entries().end(), [](auto& a, auto& b) { return a.name < b.name; }));
  for (const SafetensorsWriteEntry& tensor : tensors) {
    const SafetensorsEntry* entry = file->Find(tensor.name);
    ASSERT_NE(entry, nullptr) << tensor.name;
    EXPECT_EQ(entry->shape, tensor.shape);
    EXPECT_EQ(entry->dtype, tensor.stored);
    const int64_t size = entry->end - entry->begin;
    std::vector<char> read(static_cast<size_t>(size));
    ASSERT_OK(file->ReadBytes(*entry, 0, size, read.data()));
    const std::string_view expected(static_cast<const char*>(tensor.data), read.size());
    EXPECT_EQ(std::string_view(read.data(), read.size()), expected) << tensor.name;
  }
  EXPECT_EQ(file->Find("absent"), nullptr);
}

TEST(Safetensors, BeginsTheDataAtAMultipleOfEight) {
  const TestFolder folder;
  const std::vector<float> values = {1};
  for (size_t length = 1; length <= 9; ++length) {
    const std::string path = folder.File("x.safetensors");
    ASSERT_OK(WriteSafetensors(path, std::vector{F32(std::string(length, 'n'), {1}, values)}, {}).status());
    const std::string bytes = ReadAll(path);
    EXPECT_EQ((bytes.size() - sizeof(float)) % 8, 0u);
  }
}

TEST(Safetensors, RoundsToBf16NearestEven) {
  const TestFolder folder;
  std::vector<float> values(200'000);  // more than one conversion buffer
  std::mt19937 random(7);
  for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0xbfffffffu);
  ASSERT_OK(WriteSafetensors(folder.File("x"), std::vector{F32("w", {200'000}, values, DType::kBf16)}, {}).status());
  const auto file = SafetensorsFile::Open(folder.File("x"));
  ASSERT_OK(file.status());
  const SafetensorsEntry* entry = file->Find("w");
  EXPECT_EQ(entry->dtype_name, "BF16");
  std::vector<float> read(values.size());
  ASSERT_OK(file->ReadFloats(*entry, 0, 200'000, read.data()));
  for (size_t i = 0; i < values.size(); ++i) {
    // Nearest: no bf16 number is closer, and a tie has an even last bit.
    const uint32_t bits = std::bit_cast<uint32_t>(read[i]);
    EXPECT_EQ(bits & 0xffffu, 0u);
    const double step = static_cast<double>(std::bit_cast<float>(bits + 0x10000u)) - read[i];
    const double distance = std::abs(static_cast<double>(read[i]) - values[i]), half = std::abs(step) / 2;
    EXPECT_LE(distance, half);
    EXPECT_TRUE(distance < half || (bits & 0x10000u) == 0);
  }
}

TEST(Safetensors, ConvertsEveryHalfFloatExactly) {
  const TestFolder folder;
  std::vector<uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), uint16_t{0});
  const std::string_view data(reinterpret_cast<const char*>(halves.data()), halves.size() * 2);
  WriteAll(folder.File("h"),
           RawSafetensors(R"({"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}})", data));
  const auto file = SafetensorsFile::Open(folder.File("h"));
  ASSERT_OK(file.status());
  std::vector<float> read(halves.size());
  ASSERT_OK(file->ReadFloats(*file->Find("h"), 0, 65536, read.data()));
  for (size_t i = 0; i < halves.size(); ++i) {
    const int exponent = (halves[i] >> 10) & 31, fraction = halves[i] & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) expected = fraction == 0 ? INFINITY : NAN;
    if ((halves[i] >> 15) != 0) expected = -expected;
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(read[i])) << i;
    } else {
      EXPECT_EQ(read[i], expected) << i;
      EXPECT_EQ(std::signbit(read[i]), std::signbit(expected)) << i;
    }
  }
}

TEST(Safetensors, ReadsAnyRangeOfElementsAsFloats) {
  const TestFolder folder;
  std::vector<int64_t> values(40'000);
  std::iota(values.begin(), values.end(), -20'000);
  const SafetensorsWriteEntry tensor = {"i", {40'000}, values.data(), DType::kI64, DType::kI64};
  ASSERT_OK(WriteSafetensors(folder.File("x"), std::vector{tensor}, {}).status());
  const auto file = SafetensorsFile::Open(folder.File("x"));
  ASSERT_OK(file.status());
  for (const auto& [first, count] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 40'000}, {39'999, 1}, {5, 16'384}, {7, 0}}) {
    std::vector<float> read(static_cast<size_t>(count));
    ASSERT_OK(file->ReadFloats(*file->Find("i"), first, count, read.data()));
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(read[static_cast<size_t>(i)], static_cast<float>(first + i - 20'000));
  }
}

TEST(Safetensors, RefusesToReadForeignTypesAsNumbers) {
  const TestFolder folder;
  WriteAll(folder.File("x"), RawSafetensors(R"({"flags":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", "ab"));
  const auto file = SafetensorsFile::Open(folder.File("x"));
  ASSERT_OK(file.status());
  float out[2];
  const absl::Status status = file->ReadFloats(*file->Find("flags"), 0, 2, out);
  EXPECT_TRUE(Contains(status, "flags") && Contains(status, "BOOL") && Contains(status, folder.path())) << status;
}

TEST(Safetensors, RefusesFilesThatAreNone) {
  const TestFolder folder;
  const std::string good = RawSafetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
  const std::string path = folder.File("x.safetensors");
  for (size_t length = 0; length < good.size(); ++length) {
    WriteAll(path, good.substr(0, length));
    const auto file = SafetensorsFile::Open(path);
    ASSERT_FALSE(file.ok()) << length;
    EXPECT_TRUE(Contains(file.status(), path)) << file.status();
  }
  for (const uint64_t lie :
       {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{65} << 20, static_cast<uint64_t>(good.size() - 7)}) {
    std::string bytes = good;
    std::memcpy(bytes.data(), &lie, sizeof lie);
    WriteAll(path, bytes);
    EXPECT_TRUE(Contains(SafetensorsFile::Open(path).status(), "claims a header of")) << lie;
  }
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open(folder.File("absent")).status()));
  EXPECT_TRUE(Contains(SafetensorsFile::Open(folder.path()).status(), "not a regular file"));
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  EXPECT_TRUE(Contains(SafetensorsFile::Open(folder.File("pipe")).status(), "not a regular file"));
}

TEST(Safetensors, AFileThatShrinksAfterOpeningIsAnError) {
  const TestFolder folder;
  const std::string path = folder.File("x.safetensors");
  const std::string good = RawSafetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
  WriteAll(path, good);
  const auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file.status());
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(good.size()) - 1), 0);
  float out[2];
  EXPECT_TRUE(Contains(file->ReadFloats(*file->Find("a"), 0, 2, out), "ends at byte"));
}

TEST(Safetensors, WritesNothingItWouldNotRead) {
  const TestFolder folder;
  const std::vector<float> values = {1};
  EXPECT_FALSE(WriteSafetensors(folder.File("x"), std::vector{F32("a", {1}, values), F32("a", {1}, values)}, {}).ok());
  EXPECT_FALSE(WriteSafetensors(folder.File("x"), std::vector{F32("a\tb", {1}, values)}, {}).ok());
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(Safetensors, AFullDiskIsAnErrorThatSaysWhatToDo) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "/dev/full is missing";
  const TestFolder folder;
  const std::string path = folder.File("x.safetensors");
  std::filesystem::create_symlink("/dev/full", path);
  const std::vector<float> values(1000);
  const auto written = WriteSafetensors(path, std::vector{F32("a", {1000}, values)}, {});
  EXPECT_TRUE(absl::IsResourceExhausted(written.status())) << written.status();
  EXPECT_TRUE(Contains(written.status(), path) && Contains(written.status(), "No space left on device") &&
              Contains(written.status(), "free at least"))
      << written.status();
  EXPECT_TRUE(std::filesystem::exists("/dev/full"));
}

TEST(Safetensors, NamesTheFolderThatIsMissing) {
  const auto written = WriteSafetensors("/nonexistent/x.safetensors", {}, {});
  EXPECT_TRUE(absl::IsNotFound(written.status()) && Contains(written.status(), "/nonexistent/x.safetensors"));
}

}  // namespace
}  // namespace conclave::core
