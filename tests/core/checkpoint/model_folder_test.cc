// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/model_folder.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

const std::string kFixtures = CONCLAVE_SOURCE_DIR "/../shared/fixtures/";

void WriteWeights(const std::string& path, const std::string& name, const std::vector<float>& values) {
  const SafetensorsWriteEntry entry = {
      .name = name, .shape = {static_cast<int64_t>(values.size())}, .data = values.data()};
  ASSERT_OK(WriteSafetensors(path, std::span(&entry, 1), {}).status());
}

TEST(ModelFolder, ReadsASingleFile) {
  const TestFolder folder;
  WriteWeights(folder.File("model.safetensors"), "w", {1, 2, 3});
  const auto model = ModelFolder::Open(folder.path());
  ASSERT_OK(model.status());
  EXPECT_EQ(model->Names(), std::vector<std::string>{"w"});
  EXPECT_EQ(*model->Shape("w"), std::vector<int64_t>{3});
  EXPECT_EQ(*model->StoredType("w"), "F32");
  std::vector<float> out(3);
  ASSERT_OK(model->Read("w", {3}, out.data()));
  EXPECT_EQ(out, (std::vector<float>{1, 2, 3}));
  EXPECT_FALSE(model->Has("v"));
  EXPECT_TRUE(Contains(model->Read("v", {3}, out.data()), "'v'"));
  const absl::Status shape = model->Read("w", {1, 3}, out.data());
  EXPECT_TRUE(Contains(shape, "[3]") && Contains(shape, "[1, 3]")) << shape;
}

TEST(ModelFolder, FollowsAnIndexOfTwoFilesWithForeignKeysAndWithoutMetadata) {
  const TestFolder folder;
  WriteWeights(folder.File("one"), "a", {1});
  WriteWeights(folder.File("two.bin"), "b", {2});
  WriteAll(folder.File("model.safetensors.index.json"),
           R"({"more":[1,{"weight_map":{"a":"zzz"}},null,-1.5e3,true],"weight_map":{"b":"two.bin","a":"one"},"x":{}})");
  const auto model = ModelFolder::Open(folder.path());
  ASSERT_OK(model.status());
  EXPECT_EQ(model->Names(), (std::vector<std::string>{"a", "b"}));
  float out = 0;
  ASSERT_OK(model->Read("b", {1}, &out));
  EXPECT_EQ(out, 2);
}

TEST(ModelFolder, NamesTensorAndFileThatAreMissing) {
  const TestFolder folder;
  WriteWeights(folder.File("one"), "a", {1});
  const std::string index = folder.File("model.safetensors.index.json");
  WriteAll(index, R"({"metadata":{"total_size":1},"weight_map":{"a":"one","b":"one"}})");
  const absl::Status tensor = ModelFolder::Open(folder.path()).status();
  EXPECT_TRUE(Contains(tensor, "'b'") && Contains(tensor, "/one")) << tensor;
  WriteAll(index, R"({"weight_map":{"a":"one","b":"three"}})");
  const absl::Status file = ModelFolder::Open(folder.path()).status();
  EXPECT_TRUE(Contains(file, "'b'") && Contains(file, "/three") && absl::IsNotFound(file)) << file;
  EXPECT_TRUE(Contains(ModelFolder::Open(folder.path() + "/none").status(), "is no model folder"));
}

TEST(ModelFolder, RefusesAnIndexThatLeavesTheFolderOrIsNone) {
  const TestFolder folder, other;
  WriteWeights(other.File("w"), "a", {1});
  const std::string outside = other.File("w");
  for (const std::string& bad : std::vector<std::string>{
           "", "[]", "{", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
           R"({"weight_map":{"a":{"b":"c"}}})", R"({"weight_map":{"a":""}})", R"({"weight_map":{"a":".."}})",
           R"({"weight_map":{"a":"../w"}})", R"({"weight_map":{"a":"sub/w"}})", R"({"weight_map":{"a":"w\u0000x"}})",
           R"({"weight_map":{"a":"w","a":"w"}})", R"({"weight_map":{},"weight_map":{}})",
           "{\"weight_map\":{\"a\":\"" + outside + "\"}}", "{\"x\":" + std::string(100'000, '[')}) {
    WriteAll(folder.File("model.safetensors.index.json"), bad);
    const auto model = ModelFolder::Open(folder.path());
    ASSERT_FALSE(model.ok()) << bad;
    EXPECT_TRUE(Contains(model.status(), "model.safetensors.index.json")) << model.status();
  }
}

TEST(ModelFolder, NamesTheFirstValueThatIsNotFinite) {
  const TestFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, NAN};
  const SafetensorsWriteEntry entry = {.name = "w", .shape = {2, 3}, .data = values.data()};
  ASSERT_OK(WriteSafetensors(folder.File("model.safetensors"), std::span(&entry, 1), {}).status());
  const auto model = ModelFolder::Open(folder.path());
  ASSERT_OK(model.status());
  std::vector<float> out(6);
  const absl::Status status = model->Read("w", {2, 3}, out.data());
  EXPECT_TRUE(Contains(status, "'w'") && Contains(status, "nan at index [1, 2]")) << status;
}

// 130 x 129 elements: four blocks, three of them ragged.
std::string Fp8File(const std::string& scale_type, const std::string& scale_shape, const std::string& scales,
                    const std::string& weights) {
  const std::string end = std::to_string(weights.size()), all = std::to_string(weights.size() + scales.size());
  return RawSafetensors(R"({"w.weight":{"dtype":"F8_E4M3","shape":[130,129],"data_offsets":[0,)" + end +
                            R"(]},"w.weight_scale_inv":{"dtype":")" + scale_type + R"(","shape":)" + scale_shape +
                            R"(,"data_offsets":[)" + end + "," + all + "]}}",
                        weights + scales);
}

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TEST(ModelFolder, MultipliesFp8BlocksByTheirScalesWithRaggedEdges) {
  const TestFolder folder;
  std::string weights(130 * 129, '\x38');  // 1.0
  weights[0] = '\x7e';                     // 448
  weights[1] = '\x81';                     // -2^-9
  const std::vector<float> scales = {2, 3, 5, 7};
  std::vector<uint16_t> bf16;
  for (float scale : scales) bf16.push_back(ToBf16(scale).bits);
  for (const bool in_bf16 : {false, true}) {
    WriteAll(folder.File("model.safetensors"),
             Fp8File(in_bf16 ? "BF16" : "F32", "[2,2]", in_bf16 ? Bytes(bf16) : Bytes(scales), weights));
    const auto model = ModelFolder::Open(folder.path());
    ASSERT_OK(model.status());
    EXPECT_EQ(model->Names(), std::vector<std::string>{"w.weight"});
    EXPECT_FALSE(model->Has("w.weight_scale_inv"));
    std::vector<float> out(130 * 129);
    ASSERT_OK(model->Read("w.weight", {130, 129}, out.data()));
    EXPECT_EQ(out[0], 896.0f);
    EXPECT_EQ(out[1], -0x1p-8f);
    EXPECT_EQ(out[127], 2.0f);
    EXPECT_EQ(out[128], 3.0f);
    EXPECT_EQ(out[128 * 129], 5.0f);
    EXPECT_EQ(out[130 * 129 - 1], 7.0f);
  }
}

TEST(ModelFolder, RefusesFp8WithoutFittingScales) {
  const TestFolder folder;
  const std::string weights(130 * 129, '\x38');
  std::vector<float> out(130 * 129);
  const auto status = [&](const std::string& bytes) {
    WriteAll(folder.File("model.safetensors"), bytes);
    const auto model = ModelFolder::Open(folder.path());
    return model.ok() ? model->Read("w.weight", {130, 129}, out.data()) : model.status();
  };
  EXPECT_TRUE(Contains(status(Fp8File("F32", "[1,2]", std::string(8, '\1'), weights)), "need F32 or BF16 [2, 2]"));
  EXPECT_TRUE(Contains(status(Fp8File("F16", "[2,2]", std::string(8, '\1'), weights)), "need F32 or BF16 [2, 2]"));
  EXPECT_TRUE(Contains(status(Fp8File("F32", "[2,2]", Bytes(std::vector<float>{1, 1, INFINITY, 1}), weights)),
                       "inf at index [1, 0]"));
  std::string with_nan = weights;
  with_nan[131] = '\x7f';
  EXPECT_TRUE(
      Contains(status(Fp8File("F32", "[2,2]", Bytes(std::vector<float>{1, 1, 1, 1}), with_nan)), "index [1, 2]"));
  EXPECT_TRUE(Contains(
      status(RawSafetensors(R"({"w.weight":{"dtype":"F8_E4M3","shape":[130,129],"data_offsets":[0,16770]}})", weights)),
      "has no companion 'w.weight_scale_inv'"));
}

// Decodes e4m3 by its definition, in double precision.
double DecodeE4m3(uint8_t byte) {
  const int exponent = (byte >> 3) & 15, fraction = byte & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return byte >= 128 ? -magnitude : magnitude;
}

TEST(ModelFolder, ReadsTheFp8FixtureAsItsDefinitionSays) {
  const std::string dir = kFixtures + "deepseek_v3_fp8";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "needs " << dir;
  const auto model = ModelFolder::Open(dir);
  ASSERT_OK(model.status());
  // Independent path: the whole file in memory, its header as a JSON tree, one element at a time.
  const std::string bytes = ReadAll(dir + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
  const auto data = [&](const std::string& name) {
    return bytes.data() + 8 + length + header[name]["data_offsets"][0].get<size_t>();
  };
  int checked = 0, ragged = 0;
  for (const std::string& name : model->Names()) {
    if (*model->StoredType(name) != "F8_E4M3") continue;
    const auto shape = header[name]["shape"].get<std::vector<int64_t>>();
    std::vector<float> out(static_cast<size_t>(shape[0] * shape[1]));
    ASSERT_OK(model->Read(name, shape, out.data()));
    const int64_t blocks = header[name + "_scale_inv"]["shape"][1];
    for (int64_t i = 0; i < shape[0] * shape[1]; ++i) {
      const int64_t row = i / shape[1], column = i % shape[1];
      float scale = 0;
      std::memcpy(&scale, data(name + "_scale_inv") + 4 * (row / 128 * blocks + column / 128), 4);
      const double value = DecodeE4m3(static_cast<uint8_t>(data(name)[i])) * scale;
      ASSERT_EQ(out[static_cast<size_t>(i)], static_cast<float>(value)) << name << " " << i;
    }
    ++checked;
    ragged += shape[0] % 128 != 0 && shape[0] > 128;
  }
  EXPECT_GT(checked, 10);
  EXPECT_GT(ragged, 5);
}

TEST(ModelFolder, ReadsTheFixtureOfThreeShards) {
  const std::string dir = kFixtures + "deepseek_v3_groups_yarn";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "needs " << dir;
  const auto model = ModelFolder::Open(dir);
  ASSERT_OK(model.status());
  const nlohmann::json index = nlohmann::json::parse(ReadAll(dir + "/model.safetensors.index.json"));
  EXPECT_EQ(model->Names().size(), index["weight_map"].size());
  int64_t bytes = 0;
  for (const std::string& name : model->Names()) {
    const std::vector<int64_t> shape = *model->Shape(name);
    const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    std::vector<float> out(static_cast<size_t>(count));
    ASSERT_OK(model->Read(name, shape, out.data()));
    bytes += count * (*model->StoredType(name) == "BF16" ? 2 : 4);
  }
  EXPECT_EQ(bytes, index["metadata"]["total_size"].get<int64_t>());
}

}  // namespace
}  // namespace conclave::core
