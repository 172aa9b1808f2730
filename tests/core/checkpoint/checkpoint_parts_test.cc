// SPDX-License-Identifier: Apache-2.0
// Checkpoints by several writers: whatever the cut, it is the checkpoint that one writer makes.
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/model_folder.h"
#include "core/checkpoint/weight_index.h"
#include "tests/core/checkpoint/checkpoint_parts_test_util.h"

namespace conclave::core {
namespace {

std::string Save(const std::vector<SaveRequest>& requests) {
  const auto path = SaveParts(requests);
  EXPECT_TRUE(path.ok()) << path.status();
  return path.value_or("");
}

// "dtype shape bytes" of every weight, as stored.
std::map<std::string, std::string> StoredWeights(const std::string& dir) {
  const auto index = OpenWeights(dir);
  EXPECT_TRUE(index.ok()) << index.status();
  std::map<std::string, std::string> weights;
  for (const auto& [name, place] : index->tensors) {
    std::string bytes(static_cast<size_t>(place.entry->end - place.entry->begin), '\0');
    EXPECT_TRUE(index->files[static_cast<size_t>(place.file)]
                    .ReadBytes(*place.entry, 0, static_cast<int64_t>(bytes.size()), bytes.data())
                    .ok());
    weights[name] = TypeText(place.entry->dtype, place.entry->shape) + bytes;
  }
  return weights;
}

// Restores every box of the requests' state into memory that held something else.
void ExpectRestores(const std::string& dir, DealtRequests dealt) {
  for (SaveRequest& reader : dealt.requests) {
    std::vector<std::vector<float>> expected;
    for (const StateTensor& tensor : reader.optimizer) {
      float* values = static_cast<float*>(tensor.data);
      expected.emplace_back(values, values + tensor.box.Elements());
      std::fill_n(values, tensor.box.Elements(), -1.0f);
    }
    ASSERT_OK(RestoreState(dir, reader.optimizer));
    for (size_t i = 0; i < expected.size(); ++i) {
      const float* values = static_cast<const float*>(reader.optimizer[i].data);
      EXPECT_EQ(std::vector<float>(values, values + expected[i].size()), expected[i]) << reader.optimizer[i].name;
    }
  }
}

class CheckpointParts : public testing::TestWithParam<int> {};

TEST_P(CheckpointParts, AnyCutGivesTheSameStateAndWeightsAndRestoresIntoAnyOther) {
  const TestFolder alone;
  const std::string reference = Save(WholeRun(alone.path()).Deal(1, 0).requests);
  const std::string hash = *StateHash(reference);
  const auto weights = StoredWeights(reference);
  for (unsigned seed = 1; seed <= 12; ++seed) {
    const TestFolder folder;
    WholeRun run(folder.path());
    run.common.max_file_bytes = seed % 2 == 0 ? 200 : int64_t{1} << 30;
    const std::string dir = Save(run.Deal(GetParam(), seed).requests);
    EXPECT_EQ(NamesIn(folder.path()), std::vector<std::string>{"step_7"});
    ASSERT_OK(VerifyCheckpoint(dir));
    EXPECT_EQ(*StateHash(dir), hash) << seed;
    EXPECT_EQ(StoredWeights(dir), weights) << seed;
    for (const int num_readers : {1, 2, 3, 8}) ExpectRestores(dir, run.Deal(num_readers, seed + 100));
  }
}

TEST_P(CheckpointParts, FilesAreNumberedThroughAndTheIndexNamesThemAll) {
  const TestFolder folder;
  WholeRun run(folder.path());
  run.common.max_file_bytes = 100;
  const std::string dir = Save(run.Deal(GetParam(), 3).requests);
  const nlohmann::json index = nlohmann::json::parse(ReadAll(dir + "/model.safetensors.index.json"));
  std::set<std::string> named;
  for (const auto& [tensor, file] : index["weight_map"].items()) named.insert(file);
  std::set<std::string> expected, found;
  for (size_t i = 1; i <= named.size(); ++i) {
    expected.insert(absl::StrFormat("model-%05d-of-%05d.safetensors", i, named.size()));
  }
  for (const std::string& name : NamesIn(dir)) {
    if (name.ends_with(".safetensors")) found.insert(name);
  }
  EXPECT_GT(named.size(), 1u);
  EXPECT_EQ(named, expected);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(index["metadata"]["total_size"], (9 * 8 + 5 + 48 + 48 + 60) * 2 + 3 * 4);
  const std::vector<std::string> state = NamesIn(dir + "/optimizer");
  for (size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i], absl::StrFormat("state-%05d-of-%05d.safetensors", i + 1, state.size()));
  }
  EXPECT_EQ(ModelFolder::Open(dir)->Names().size(), run.weights.size());
}

TEST_P(CheckpointParts, EachVerifiesItsShareAndTogetherTheyFindAllDamage) {
  const TestFolder folder;
  const int num_parts = GetParam();
  const std::string dir = Save(WholeRun(folder.path()).Deal(num_parts, 5).requests);
  const Manifest manifest = *ReadManifest(dir);
  for (const WrittenFile& file : manifest.files) {
    FlipBit(dir + "/" + file.name, static_cast<size_t>(file.bytes) - 1, 2);
    int found = 0;
    for (int part = 0; part < num_parts; ++part) {
      const absl::Status status = VerifyCheckpoint(dir, {.index = part, .count = num_parts});
      found += status.ok() ? 0 : 1;
      EXPECT_TRUE(status.ok() || Contains(status, file.name)) << status;
    }
    EXPECT_EQ(found, 1) << file.name;
    FlipBit(dir + "/" + file.name, static_cast<size_t>(file.bytes) - 1, 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Writers, CheckpointParts, testing::Values(1, 2, 3, 8));

TEST(CheckpointParts, OneMayHoldEverythingAndOthersNothing) {
  const TestFolder alone, folder;
  const std::string reference = Save(WholeRun(alone.path()).Deal(1, 0).requests);
  WholeRun run(folder.path());
  DealtRequests dealt = run.Deal(1, 2);
  dealt.requests.insert(dealt.requests.begin(), 2, run.common);
  dealt.requests.insert(dealt.requests.end(), 5, run.common);
  const std::string dir = Save(dealt.requests);
  EXPECT_EQ(*StateHash(dir), *StateHash(reference));
  EXPECT_EQ(ReadAll(dir + "/model.safetensors"), ReadAll(reference + "/model.safetensors"));
}

TEST(CheckpointParts, ThoseOfEightWritersReadByThreeAndSavedByThreeHaveEqualBytes) {
  const TestFolder a, b;
  WholeRun first(a.path()), second(b.path());
  first.common.weights_dtype = second.common.weights_dtype = DType::kF32;
  const std::string by_eight = Save(first.Deal(8, 11).requests);
  for (auto* tensors : {&second.weights, &second.state}) {
    for (GlobalTensor& tensor : *tensors) std::fill(tensor.values.begin(), tensor.values.end(), -1.0f);
  }
  DealtRequests readers = second.Deal(3, 12);
  for (const SaveRequest& reader : readers.requests) {
    ASSERT_OK(RestoreState(by_eight, reader.weights));
    ASSERT_OK(RestoreState(by_eight, reader.optimizer));
  }
  const std::string by_three = Save(readers.requests);
  EXPECT_EQ(StoredWeights(by_three), StoredWeights(by_eight));
  EXPECT_EQ(*StateHash(by_three), *StateHash(by_eight));
  const auto names = ListState(by_three), before = ListState(by_eight);
  ASSERT_EQ(names->size(), before->size());
  for (const GlobalTensor& tensor : first.state) {
    std::vector<float> values(tensor.values.size());
    ASSERT_OK(
        RestoreState(by_three, {{tensor.name, tensor.shape, WholeBox(tensor.shape), DType::kF32, values.data()}}));
    EXPECT_EQ(values, tensor.values) << tensor.name;
  }
}

}  // namespace
}  // namespace conclave::core
