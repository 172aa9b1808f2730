// SPDX-License-Identifier: Apache-2.0
// What a checkpoint gives back: every box of every tensor, however it was cut, and one hash for one state.
#include "core/checkpoint/checkpoint.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/checkpoint/manifest.h"
#include "core/checkpoint/model_folder.h"
#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

std::string Saved(const SaveRequest& request) {
  const auto path = SaveCheckpoint(request);
  EXPECT_TRUE(path.ok()) << path.status();
  return path.value_or("");
}

std::string Hash(const std::string& dir) {
  const auto hash = StateHash(dir);
  EXPECT_TRUE(hash.ok()) << hash.status();
  return hash.value_or("");
}

TEST(Checkpoint, IsAHuggingFaceFolderWithStateAndManifest) {
  const TestFolder folder;
  SmallRun run(folder.File("run/checkpoints"));
  const std::string dir = Saved(run.request);
  EXPECT_EQ(dir, folder.File("run/checkpoints/step_7"));
  EXPECT_EQ(NamesIn(folder.File("run/checkpoints")), std::vector<std::string>{"step_7"});
  EXPECT_EQ(NamesIn(dir), (std::vector<std::string>{"config.json", "manifest.pb", "model.safetensors",
                                                    "model.safetensors.index.json", "optimizer", "tokenizer.json"}));
  EXPECT_EQ(NamesIn(dir + "/optimizer"), std::vector<std::string>{"state-00001-of-00001.safetensors"});
  EXPECT_EQ(ReadAll(dir + "/tokenizer.json"), run.request.files.at("tokenizer.json"));
  ASSERT_OK(VerifyCheckpoint(dir));

  const auto model = ModelFolder::Open(dir);
  ASSERT_OK(model.status());
  EXPECT_EQ(*model->StoredType("model.weight"), "BF16");
  EXPECT_EQ(*model->StoredType("model.bias"), "F32");
  std::vector<float> bias(3), weight(49);
  ASSERT_OK(model->Read("model.bias", {3}, bias.data()));
  EXPECT_EQ(bias, run.bias.values);
  ASSERT_OK(model->Read("model.weight", {7, 7}, weight.data()));
  for (size_t i = 0; i < weight.size(); ++i) EXPECT_EQ(weight[i], ToFloat(ToBf16(run.weight.values[i])));
}

TEST(Checkpoint, ReturnsItsMeta) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.request.meta.config_yaml = "name: caf\xc3\xa9 \xff\n";  // not even UTF-8 is lost
  const auto meta = ReadCheckpointMeta(Saved(run.request));
  ASSERT_OK(meta.status());
  EXPECT_EQ(meta->step, 7);
  EXPECT_EQ(meta->data_position, 321);
  EXPECT_EQ(meta->seed, 0xfedcba9876543210u);
  EXPECT_EQ(meta->config_yaml, run.request.meta.config_yaml);
  EXPECT_EQ(meta->device, "cpu avx2");
  EXPECT_EQ(meta->precision, "bf16");
  EXPECT_EQ(meta->sample_chain, "abc");
  EXPECT_EQ(meta->program_version, "0.1.0");
  EXPECT_EQ(meta->history, run.request.meta.history);
}

TEST(Checkpoint, CutsWeightsAndStateIntoFilesOfBoundedSize) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.request.max_file_bytes = 100;
  const std::string dir = Saved(run.request);
  const nlohmann::json index = nlohmann::json::parse(ReadAll(dir + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 49 * 2 + 5 * 2 + 3 * 4);
  EXPECT_EQ(index["weight_map"]["model.bias"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["model.weight"], "model-00002-of-00002.safetensors");
  EXPECT_GT(NamesIn(dir + "/optimizer").size(), 2u);
  EXPECT_FALSE(std::filesystem::exists(dir + "/model.safetensors"));
  const auto model = ModelFolder::Open(dir);
  ASSERT_OK(model.status());
  EXPECT_EQ(model->Names().size(), 3u);
  ASSERT_OK(VerifyCheckpoint(dir));
}

TEST(Checkpoint, RestoresAnyBoxFromAnyCut) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.request.max_file_bytes = 60;
  const std::string dir = Saved(run.request);
  for (int64_t row = 0; row <= 7; ++row) {
    for (int64_t column = 0; column <= 7; ++column) {
      const std::vector<Box> boxes = {MakeBox({0, 0}, {row, column}), MakeBox({row, column}, {7 - row, 7 - column}),
                                      MakeBox({row, 0}, {7 - row, column}), MakeBox({0, column}, {row, 7 - column})};
      std::vector<std::vector<float>> memory(boxes.size());
      std::vector<StateTensor> wanted;
      for (size_t i = 0; i < boxes.size(); ++i) {
        memory[i].assign(static_cast<size_t>(boxes[i].Elements()) + 1, -1.0f);  // one element of guard
        wanted.push_back({run.master.name, {7, 7}, boxes[i], DType::kF32, memory[i].data()});
      }
      ASSERT_OK(RestoreState(dir, wanted));
      for (size_t i = 0; i < boxes.size(); ++i) {
        EXPECT_EQ(memory[i].back(), -1.0f);
        run.master.ForEach(boxes[i], [&](size_t global, size_t local) {
          ASSERT_EQ(memory[i][local], run.master.values[global]) << row << " " << column;
        });
      }
    }
  }
}

TEST(Checkpoint, RestoresFourDimsFromRandomCuts) {
  const TestFolder folder;
  const std::vector<int64_t> shape = {4, 3, 5, 6};
  std::vector<int32_t> all(360);
  std::iota(all.begin(), all.end(), 1);
  const auto cut = [&](const Box& box) {
    std::vector<int32_t> values;
    for (int32_t i = 0; i < 360; ++i) {
      const int64_t at[] = {i / 90, i / 30 % 3, i / 6 % 5, i % 6};
      bool inside = true;
      for (int dim = 0; dim < 4; ++dim)
        inside &= at[dim] >= box.offsets[dim] && at[dim] < box.offsets[dim] + box.sizes[dim];
      if (inside) values.push_back(all[static_cast<size_t>(i)]);
    }
    return values;
  };
  std::mt19937 random(3);
  for (int trial = 0; trial < 5; ++trial) {
    // Saves slabs of one dim, restores a random box.
    const int dim = trial % 4;
    SaveRequest request;
    request.parent = folder.path();
    request.meta.step = trial;
    request.max_file_bytes = 300;
    std::vector<std::vector<int32_t>> pieces(static_cast<size_t>(shape[dim]));
    for (size_t i = 0; i < pieces.size(); ++i) {
      Box box = MakeBox({0, 0, 0, 0}, shape);
      box.offsets[dim] = static_cast<int64_t>(i);
      box.sizes[dim] = 1;
      pieces[i] = cut(box);
      request.optimizer.push_back({"t", shape, box, DType::kI32, pieces[i].data()});
    }
    const std::string dir = Saved(request);
    for (int wanted = 0; wanted < 10; ++wanted) {
      Box box = MakeBox({0, 0, 0, 0}, {0, 0, 0, 0});
      for (int d = 0; d < 4; ++d) {
        box.offsets[d] = static_cast<int64_t>(random() % static_cast<uint64_t>(shape[d]));
        box.sizes[d] = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(shape[d] - box.offsets[d]));
      }
      std::vector<int32_t> out(static_cast<size_t>(box.Elements()));
      ASSERT_OK(RestoreState(dir, {{"t", shape, box, DType::kI32, out.data()}}));
      EXPECT_EQ(out, cut(box));
    }
  }
}

TEST(Checkpoint, RestoresCountersScalarsAndWeights) {
  const TestFolder folder;
  SmallRun run(folder.path());
  const std::string dir = Saved(run.request);
  int64_t counts[2] = {};
  float scalar = 0;
  std::vector<float> bias(3);
  ASSERT_OK(RestoreState(dir, {{"optimizer.count", {2}, MakeBox({0}, {2}), DType::kI64, counts},
                               {"optimizer.scalar", {}, MakeBox({}, {}), DType::kF32, &scalar},
                               {"model.bias", {3}, MakeBox({0}, {3}), DType::kF32, bias.data()}}));
  EXPECT_EQ(counts[0], -1);
  EXPECT_EQ(counts[1], int64_t{1} << 62);
  EXPECT_EQ(scalar, 0.3f);
  EXPECT_EQ(bias, run.bias.values);
}

// Bytes that this process has read from files so far, or -1.
int64_t ReadSoFar() {
  std::ifstream io("/proc/self/io");
  std::string key;
  int64_t bytes = -1;
  return io >> key >> bytes && key == "rchar:" ? bytes : -1;
}

TEST(Checkpoint, ReadsOnlyTheBytesItNeeds) {
  if (ReadSoFar() < 0) GTEST_SKIP() << "/proc/self/io cannot be read";
  const TestFolder folder;
  std::vector<float> values(1'000'000), out(500);
  std::iota(values.begin(), values.end(), 0.0f);
  SaveRequest request;
  request.parent = folder.path();
  request.optimizer = {{"m", {1000, 1000}, MakeBox({0, 0}, {1000, 1000}), DType::kF32, values.data()}};
  const std::string dir = Saved(request);
  const int64_t before = ReadSoFar();
  ASSERT_OK(RestoreState(dir, {{"m", {1000, 1000}, MakeBox({500, 300}, {5, 100}), DType::kF32, out.data()}}));
  EXPECT_LT(ReadSoFar() - before, 10'000);
  EXPECT_EQ(out[0], 500'300.0f);
  EXPECT_EQ(out[499], 504'399.0f);
}

TEST(Checkpoint, NamesWhatIsMissingOrDifferent) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.CutMaster({{0, 0}, {3, 0}, {3, 6}}, {{3, 7}, {4, 6}, {4, 1}});
  const std::string dir = Saved(run.request);
  Manifest manifest = *ReadManifest(dir);
  std::erase_if(manifest.state, [](const StoredBox& box) { return box.box.offsets[1] == 6; });
  ASSERT_OK(WriteManifest(dir, manifest));  // the last column of rows 3 to 6 is nowhere
  std::vector<float> out(64);
  const auto restore = [&](const StateTensor& tensor) { return RestoreState(dir, {tensor}); };
  const absl::Status missing = restore({run.master.name, {7, 7}, MakeBox({2, 3}, {2, 4}), DType::kF32, out.data()});
  EXPECT_TRUE(Contains(missing, run.master.name) && Contains(missing, "[3:4, 6:7]")) << missing;
  const absl::Status shape = restore({run.master.name, {7, 8}, MakeBox({0, 0}, {7, 8}), DType::kF32, out.data()});
  EXPECT_TRUE(Contains(shape, "F32 [7, 7]") && Contains(shape, "F32 [7, 8]")) << shape;
  const absl::Status dtype = restore({run.master.name, {7, 7}, MakeBox({0, 0}, {1, 1}), DType::kI32, out.data()});
  EXPECT_TRUE(Contains(dtype, "F32 [7, 7]") && Contains(dtype, "I32 [7, 7]")) << dtype;
  const absl::Status name = restore({"optimizer.v", {7, 7}, MakeBox({0, 0}, {1, 1}), DType::kF32, out.data()});
  EXPECT_TRUE(absl::IsNotFound(name) && Contains(name, "'optimizer.v'")) << name;
}

TEST(Checkpoint, ListsAllTensorsByName) {
  const TestFolder folder;
  SmallRun run(folder.path());
  const auto tensors = ListState(Saved(run.request));
  ASSERT_OK(tensors.status());
  std::vector<std::string> names;
  for (const StateTensor& tensor : *tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"model.bias", "model.norm", "model.weight", "optimizer.bias",
                                             "optimizer.count", "optimizer.master.model.weight", "optimizer.scalar"}));
  EXPECT_EQ((*tensors)[2].dtype, DType::kBf16);
  EXPECT_EQ((*tensors)[5].shape, (std::vector<int64_t>{7, 7}));
  EXPECT_EQ((*tensors)[4].dtype, DType::kI64);
}

TEST(StateHash, DoesNotDependOnCutsFilesWeightTypeOrHistory) {
  const TestFolder a, b, c;
  SmallRun one(a.path()), two(b.path()), three(c.path());
  two.CutMaster({{0, 0}}, {{7, 7}});
  two.request.max_file_bytes = 50;
  two.request.weights_dtype = DType::kF32;
  two.request.meta.history = {"another"};
  three.CutMaster({{4, 0}, {0, 0}, {2, 0}, {0, 0}}, {{3, 7}, {2, 7}, {2, 7}, {0, 7}});
  std::reverse(three.request.optimizer.begin(), three.request.optimizer.end());
  const std::string hash = Hash(Saved(one.request));
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(hash, Hash(Saved(two.request)));
  EXPECT_EQ(hash, Hash(Saved(three.request)));
}

TEST(StateHash, SeesEveryPartOfTheState) {
  const TestFolder folder;
  SmallRun run(folder.path());
  std::vector<std::string> hashes = {Hash(Saved(run.request))};
  const auto add = [&](SmallRun& changed) { hashes.push_back(Hash(Saved(changed.request))); };
  run.counts[0] = -2;
  add(run);
  run.pieces[3][7] = std::nextafter(run.pieces[3][7], 1000.0f);
  add(run);
  ++run.request.meta.data_position;
  add(run);
  ++run.request.meta.seed;
  add(run);
  ++run.request.meta.step;
  add(run);
  run.request.optimizer[0].name += "s";
  add(run);
  run.request.optimizer[0].shape = {1, 2};
  run.request.optimizer[0].box = MakeBox({0, 0}, {1, 2});
  add(run);
  run.request.optimizer[0].dtype = DType::kF64;
  add(run);
  run.request.optimizer.pop_back();
  run.CutMaster({{0, 0}}, {{7, 7}});
  run.request.optimizer.pop_back();
  add(run);
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::adjacent_find(hashes.begin(), hashes.end()), hashes.end());
}

TEST(StateHash, StreamsTensorsLargerThanItsBuffer) {
  const TestFolder a, b;
  const int64_t rows = 5, columns = 1'000'003;
  std::vector<float> values(static_cast<size_t>(rows * columns));
  std::iota(values.begin(), values.end(), 0.0f);
  SaveRequest whole, cut;
  whole.parent = a.path();
  cut.parent = b.path();
  whole.optimizer = {{"m", {rows, columns}, MakeBox({0, 0}, {rows, columns}), DType::kF32, values.data()}};
  for (int64_t row = 0; row < rows; ++row) {
    cut.optimizer.push_back(
        {"m", {rows, columns}, MakeBox({row, 0}, {1, columns}), DType::kF32, values.data() + row * columns});
  }
  EXPECT_EQ(Hash(Saved(whole)), Hash(Saved(cut)));
}

TEST(StateHash, WithoutOptimizerIsOverTheWeights) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.request.optimizer.clear();
  const std::string hash = Hash(Saved(run.request));
  run.norm.values[0] += 1;
  EXPECT_NE(Hash(Saved(run.request)), hash);
}

TEST(StateHash, OfAModelFolderIsOverItsWeights) {
  const TestFolder folder;
  const std::vector<float> values = {1, 2};
  SafetensorsWriteEntry a = {.name = "a", .shape = {2}, .data = values.data()}, b = a;
  b.name = "b";
  ASSERT_OK(WriteSafetensors(folder.File("model.safetensors"), std::vector{a, b}, {{"any", "metadata"}}).status());
  const std::string hash = Hash(folder.path());
  std::filesystem::remove(folder.File("model.safetensors"));
  ASSERT_OK(WriteSafetensors(folder.File("x"), std::vector{a}, {}).status());
  ASSERT_OK(WriteSafetensors(folder.File("y"), std::vector{b}, {}).status());
  WriteAll(folder.File("model.safetensors.index.json"), R"({"weight_map":{"a":"x","b":"y"}})");
  EXPECT_EQ(Hash(folder.path()), hash);
  a.stored = DType::kBf16;
  ASSERT_OK(WriteSafetensors(folder.File("x"), std::vector{a}, {}).status());
  EXPECT_NE(Hash(folder.path()), hash);
}

TEST(Checkpoint, SavingAStepAgainKeepsWhatIsSoundAndEqualAndReplacesTheRest) {
  const TestFolder folder;
  SmallRun run(folder.path());
  const std::string dir = Saved(run.request), marker = dir + "/marker";
  WriteAll(marker, "x");
  run.request.meta.history = {"step 3: resumed"};
  EXPECT_EQ(Saved(run.request), dir);
  EXPECT_TRUE(std::filesystem::exists(marker));  // the same state: the folder was not touched

  FlipBit(dir + "/config.json", 0, 0);
  EXPECT_EQ(Saved(run.request), dir);
  EXPECT_FALSE(std::filesystem::exists(marker));
  ASSERT_OK(VerifyCheckpoint(dir));

  const std::string hash = Hash(dir);
  run.counts[1] = 5;  // another run in the same folder
  Saved(run.request);
  EXPECT_NE(Hash(dir), hash);
  EXPECT_EQ(NamesIn(folder.path()), std::vector<std::string>{"step_7"});
}

TEST(Checkpoint, FindsTheNewestByNumber) {
  const TestFolder folder;
  std::vector<std::string> warnings;
  EXPECT_EQ(*FindLatestCheckpoint(folder.File("absent"), &warnings), std::nullopt);
  EXPECT_EQ(*FindLatestCheckpoint(folder.path(), &warnings), std::nullopt);
  for (const int64_t step : {9, 100, 20}) Saved(SmallRun(folder.path(), step).request);
  for (const char* other : {"step_", "step_x", "step_0101", "step_-1", "steps_200", "step_99999999999999999999"}) {
    std::filesystem::create_directory(folder.File(other));
  }
  WriteAll(folder.File("step_300"), "a file");
  EXPECT_EQ(FindLatestCheckpoint(folder.path(), &warnings)->value(), folder.File("step_100"));
  EXPECT_TRUE(warnings.empty());
}

TEST(Checkpoint, RemovesOldOnesButNeverTheLastGoodOne) {
  const TestFolder folder;
  for (const int64_t step : {1, 2, 3, 4}) Saved(SmallRun(folder.path(), step).request);
  FlipBit(folder.File("step_4/model.safetensors"), 100, 0);
  ASSERT_OK(RemoveOldCheckpoints(folder.path(), 1));
  EXPECT_EQ(NamesIn(folder.path()), (std::vector<std::string>{"step_3", "step_4"}));
  ASSERT_OK(RemoveOldCheckpoints(folder.path(), 5));
  EXPECT_EQ(NamesIn(folder.path()), (std::vector<std::string>{"step_3", "step_4"}));
}

}  // namespace
}  // namespace conclave::core
