// SPDX-License-Identifier: Apache-2.0
// Saves by several writers in bad times: parts that fail, are lost, garbled or contradict each other, and death between
// writing and publishing. The checkpoints before stay, and nothing else is left.
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include <gtest/gtest.h>

#include "core/base/hash.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/merge_parts.h"
#include "tests/core/checkpoint/checkpoint_parts_test_util.h"

namespace conclave::core {
namespace {

// A folder with a sound step 1, in which step 2 is saved by several and goes wrong.
class SaveByParts : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(SaveParts(WholeRun(folder_.path(), 1).Deal(2, 1).requests).status()); }
  // Nothing has changed since.
  void TearDown() override {
    EXPECT_EQ(NamesIn(folder_.path()), std::vector<std::string>{"step_1"});
    EXPECT_EQ(FindLatestCheckpoint(folder_.path(), nullptr)->value_or("none"), folder_.File("step_1"));
  }

  void Prepare() {
    const auto prepared = PrepareSave(folder_.path(), 2);
    ASSERT_OK(prepared.status());
    temporary_ = *prepared;
  }
  std::vector<std::string> Write(const DealtRequests& dealt) { return WriteParts(dealt.requests, temporary_); }

  // Every part of the message is there; the save was refused.
  void ExpectRefused(const std::vector<std::string>& fragments, const std::vector<std::string>& expected) {
    const absl::Status status = PublishSave(run_.common, temporary_, fragments).status();
    ASSERT_FALSE(status.ok());
    EXPECT_TRUE(Contains(status, "step 2 was not written; training can go on")) << status;
    for (const std::string& part : expected) EXPECT_TRUE(Contains(status, part)) << part << ": " << status;
    EXPECT_FALSE(std::filesystem::exists(temporary_));
  }

  const TestFolder folder_;
  WholeRun run_{folder_.path(), 2};
  std::string temporary_;
};

TEST_F(SaveByParts, AnAbandonedOneLeavesNothing) {
  Prepare();
  Write(run_.Deal(3, 1));
  AbandonSave(temporary_);
}

TEST_F(SaveByParts, APartThatCannotWriteIsNamedWithItsFile) {
  Prepare();
  const DealtRequests dealt = run_.Deal(3, 4);
  // Where the second part wants its state, there is a folder: it fails half-way, its weights being written.
  std::filesystem::create_directories(temporary_ + "/" + PartFileName(kStateStem, 1, 0));
  const std::vector<std::string> fragments = Write(dealt);
  ASSERT_TRUE(std::filesystem::exists(temporary_ + "/" + PartFileName(kWeightsStem, 1, 0)));
  ExpectRefused(fragments, {"part 2 of 3 failed, and 0 more", "state-part00002-00001.safetensors"});
}

TEST_F(SaveByParts, WritersThatDoNotSeeTheFolderAreToldSo) {
  Prepare();
  const DealtRequests dealt = run_.Deal(2, 4);
  std::vector<std::string> fragments = Write(dealt);
  // As on a machine with a disk of its own.
  fragments[1] = WritePart(dealt.requests[1], folder_.File("elsewhere/.tmp_step_2_1"), {.index = 1, .count = 2});
  ExpectRefused(fragments, {"part 2 of 2", "one folder that all ranks can see"});
  Prepare();
  fragments = Write(dealt);
  std::filesystem::remove(temporary_ + "/" + PartFileName(kStateStem, 0, 0));
  ExpectRefused(fragments, {"state-part00001-00001.safetensors", "one folder that all ranks can see"});
  Prepare();
  fragments = Write(dealt);
  std::filesystem::resize_file(temporary_ + "/" + PartFileName(kStateStem, 1, 0), 100);
  ExpectRefused(fragments, {"state-part00002-00001.safetensors has 100 bytes"});
}

TEST_F(SaveByParts, AMissingDoubleOrForeignFragmentIsNamed) {
  const DealtRequests dealt = run_.Deal(3, 2);
  const auto publish = [&](auto change, const std::vector<std::string>& expected) {
    Prepare();
    std::vector<std::string> fragments = Write(dealt);
    change(fragments);
    ExpectRefused(fragments, expected);
  };
  using Fragments = std::vector<std::string>;
  publish([](Fragments& f) { f.pop_back(); }, {"part 3 of 3", "missing"});
  publish([](Fragments& f) { f.erase(f.begin()); }, {"part 1 of 3", "missing"});
  publish([](Fragments& f) { f.clear(); }, {"part 1 of 1", "missing"});
  publish([](Fragments& f) { f[1] = f[2]; }, {"part 3 of 3", "twice"});
  publish([](Fragments& f) { f.push_back(f[0]); }, {"part 1 of 3", "4 fragments"});
  publish([](Fragments& f) { f[1].clear(); }, {"fragment 2 of 3", "version 0"});
  publish([](Fragments& f) { f[1].resize(f[1].size() / 2); }, {"fragment 2 of 3", "cut off or damaged"});
  publish([&](Fragments& f) { f[0] = ReadAll(folder_.File("step_1/manifest.pb")); }, {"fragment 1 of 3", "checksum"});
  publish([&](Fragments& f) { f[2] = WritePart(run_.common, temporary_, {.index = 2, .count = 4}); },
          {"part 3 of 4", "others are of 3"});
  SaveRequest other_step = run_.common;
  other_step.meta.step = 9;
  publish([&](Fragments& f) { f[0] = WritePart(other_step, temporary_, {.index = 0, .count = 3}); },
          {"part 1 of 3", "of step 9, not 2"});
}

TEST_F(SaveByParts, EveryBitOfAFragmentCounts) {
  Prepare();
  std::vector<std::string> fragments = Write(run_.Deal(2, 3));
  for (size_t bit = 0; bit < fragments[1].size() * 8; bit += bit < 400 ? 1 : 7) {
    std::vector<std::string> bad = fragments;
    bad[1][bit / 8] = static_cast<char>(bad[1][bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(ReadFragments(bad, 2).ok()) << bit;
  }
  AbandonSave(temporary_);
}

TEST_F(SaveByParts, AnOverlapAGapAndAWeightThatTwoWroteAreNamed) {
  const auto publish = [&](auto change, const std::vector<std::string>& expected) {
    DealtRequests dealt = run_.Deal(1, 2);
    dealt.requests.push_back(run_.common);
    dealt.requests[0].optimizer.clear();
    GlobalTensor& tensor = run_.state[0];  // [9, 8]
    const auto add = [&](int part, const Box& box) {
      std::vector<float>& memory = dealt.memory.emplace_back(static_cast<size_t>(box.Elements()));
      CopyBox(tensor.shape, box, Direction::kToBox, tensor.values, memory);
      dealt.requests[static_cast<size_t>(part)].optimizer.push_back(
          {tensor.name, tensor.shape, box, DType::kF32, memory.data()});
    };
    change(dealt, add);
    Prepare();
    ExpectRefused(Write(dealt), expected);
  };
  const std::string name = run_.state[0].name;
  publish(
      [](auto&, auto add) {
        add(0, MakeBox({0, 0}, {5, 8}));
        add(1, MakeBox({4, 0}, {5, 8}));
      },
      {name, "[4:5, 0:8]", "state-part00001", "state-part00002", "report it"});
  publish(
      [](auto&, auto add) {
        add(0, MakeBox({0, 0}, {5, 8}));
        add(1, MakeBox({5, 0}, {4, 7}));
      },
      {name, "F32 [9, 8]", "nobody wrote [5:9, 7:8]"});
  publish([](DealtRequests& dealt, auto) { dealt.requests[1].weights = {dealt.requests[0].weights[0]}; },
          {"'model.embed'", "[0:9, 0:8]", "model-part00001", "model-part00002"});
  publish(
      [&](DealtRequests& dealt, auto) {
        dealt.requests[1].weights = {dealt.requests[0].weights[0]};
        dealt.requests[1].weights_dtype = DType::kF32;
      },
      {"'model.embed'", "BF16 [9, 8]", "F32 [9, 8]"});
}

TEST_F(SaveByParts, PartsThatLieAboutTheirFilesAreRefused) {
  Prepare();
  const std::vector<std::string> good = Write(run_.Deal(2, 3));
  const auto refused = [&](auto change, std::string_view expected) {
    Fragment bad = *ParseFragment(good[0]);
    change(bad.written);
    const auto parts = ReadFragments(std::vector{SerializeFragment(bad), good[1]}, 2);
    const absl::Status status = parts.ok() ? MergeParts(*parts).status() : parts.status();
    EXPECT_TRUE(Contains(status, expected)) << expected << ": " << status;
  };
  const auto rename = [](Manifest& m, const std::string& name) {
    for (auto* boxes : {&m.weights, &m.state}) {
      for (StoredBox& box : *boxes) box.file = box.file == m.files[0].name ? name : box.file;
    }
    m.files[0].name = name;
  };
  refused([&](Manifest& m) { rename(m, "config.json"); }, "'config.json' is no file of its own");
  refused([&](Manifest& m) { rename(m, PartFileName(kWeightsStem, 1, 0)); }, "is no file of its own");
  refused([&](Manifest& m) { rename(m, "../x"); }, "not a safe file name");
  refused([](Manifest& m) { m.weights[0].file = m.files.back().name; }, "is in 'optimizer/state-part00001");
  refused([](Manifest& m) { m.state[0].file = m.files[0].name; }, "is in 'model-part00001");
  refused([](Manifest& m) { m.weights[0].box.sizes[0] -= 1; }, "is not whole");
  refused([](Manifest& m) { m.weights[0].key = "other"; }, "is not whole");
  refused([](Manifest& m) { m.state[0].box.offsets[0] = int64_t{1} << 40; }, "outside its shape");
  AbandonSave(temporary_);
}

// A fragment with a right checksum around any bytes.
std::string Sealed(std::string_view fragment) {
  Hasher hasher;
  hasher.Update(fragment.data(), fragment.size());
  std::string bytes = absl::StrCat("\x08\x01\x12\x20", hasher.HexDigest(), "\x22");
  for (size_t rest = fragment.size();
       bytes.push_back(static_cast<char>((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))), (rest >>= 7) != 0;) {
  }
  return bytes.append(fragment);
}

TEST_F(SaveByParts, GarbageUnderARightChecksumIsRefusedOrConsistent) {
  Prepare();
  const std::vector<std::string> good = Write(run_.Deal(2, 3));
  const std::string inside = good[1].substr(2 + 2 + 32 + 1 + 2);  // behind version, checksum and a length of two bytes
  ASSERT_EQ(Sealed(inside), good[1]);
  std::mt19937 random(4);
  int refused = 0, accepted = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string bad = inside;
    for (uint64_t change = 1 + random() % 3; change > 0; --change) {
      bad[random() % bad.size()] = static_cast<char>(random() % 128);  // protobuf prints about others
    }
    if (random() % 8 == 0) bad.resize(random() % bad.size());
    const auto parts = ReadFragments(std::vector{good[0], Sealed(bad)}, 2);
    const auto merged = parts.ok() ? MergeParts(*parts) : parts.status();
    ++(merged.ok() ? accepted : refused);
    if (!merged.ok()) continue;
    for (const FileOfPart& file : merged->weight_files) EXPECT_TRUE(file.part_name.starts_with("model-part0000"));
    for (const FileOfPart& file : merged->state_files) EXPECT_TRUE(file.part_name.starts_with("optimizer/state-part"));
    for (const StoredBox& box : merged->weights) EXPECT_EQ(box.box, WholeBox(box.shape));
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 100);  // of the changes that hit a name or a checksum
  AbandonSave(temporary_);
}

TEST_F(SaveByParts, AFullDiskUnderOnePartIsReportedWithTheNeedOfAll) {
  Prepare();
  const TestFolder small;
  if (mount("tmpfs", small.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
    AbandonSave(temporary_);
    GTEST_SKIP() << "may not mount a tmpfs";
  }
  std::vector<float> large(100'000);
  DealtRequests dealt = run_.Deal(2, 4);
  dealt.requests[1].optimizer = {{"m", {100'000}, MakeBox({0}, {100'000}), DType::kF32, large.data()}};
  dealt.requests[1].weights.clear();
  std::vector<std::string> fragments = Write(dealt);
  std::filesystem::create_directories(small.File("optimizer"));
  fragments[1] = WritePart(dealt.requests[1], small.path(), {.index = 1, .count = 2});
  ASSERT_EQ(umount(small.path().c_str()), 0);
  ExpectRefused(fragments, {"part 2 of 2", "disk full", "state-part00002", "the checkpoint takes about 14"});
}

TEST_F(SaveByParts, DeathBetweenWritingAndPublishingIsCleanedUpByTheNextSave) {
  const pid_t child = fork();
  if (child == 0) {
    const auto prepared = PrepareSave(folder_.path(), 2);
    if (!prepared.ok()) _exit(1);
    const DealtRequests dealt = run_.Deal(3, 1);
    for (int part = 0; part < 2; ++part) {
      WritePart(dealt.requests[static_cast<size_t>(part)], *prepared, {.index = part, .count = 3});
    }
    raise(SIGKILL);
  }
  int state = 0;
  waitpid(child, &state, 0);
  ASSERT_TRUE(WIFSIGNALED(state));
  const std::string left = ".tmp_step_2_" + std::to_string(child);
  ASSERT_EQ(NamesIn(folder_.path()), (std::vector<std::string>{left, "step_1"}));
  ASSERT_FALSE(NamesIn(folder_.File(left) + "/optimizer").empty());
  EXPECT_EQ(FindLatestCheckpoint(folder_.path(), nullptr)->value_or("none"), folder_.File("step_1"));

  ASSERT_OK(SaveParts(run_.Deal(2, 1).requests).status());
  EXPECT_EQ(NamesIn(folder_.path()), (std::vector<std::string>{"step_1", "step_2"}));
  ASSERT_OK(VerifyCheckpoint(folder_.File("step_2")));
  std::filesystem::remove_all(folder_.File("step_2"));
}

}  // namespace
}  // namespace conclave::core
