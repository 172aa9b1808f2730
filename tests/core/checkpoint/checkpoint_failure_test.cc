// SPDX-License-Identifier: Apache-2.0
// What happens to checkpoints in bad times: damage, a full disk, a folder that cannot be written, death at any moment.
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <limits>
#include <random>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/manifest.h"
#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

std::string Save(const SaveRequest& request) {
  const auto path = SaveCheckpoint(request);
  EXPECT_TRUE(path.ok()) << path.status();
  return path.value_or("");
}

std::vector<std::string> FilesBelow(const std::string& dir) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  return files;
}

TEST(CheckpointDamage, AFlippedBitInAnyFileIsFound) {
  const TestFolder folder;
  const std::string dir = Save(SmallRun(folder.path()).request);
  const std::vector<std::string> files = FilesBelow(dir);
  EXPECT_EQ(files.size(), 6u);
  std::mt19937 random(1);
  for (const std::string& file : files) {
    const size_t size = std::filesystem::file_size(file);
    for (size_t byte = 0; byte < size; byte += 1 + random() % 40) {
      const int bit = static_cast<int>(random() % 8);
      FlipBit(file, byte, bit);
      const absl::Status status = VerifyCheckpoint(dir);
      ASSERT_FALSE(status.ok()) << file << " byte " << byte << " bit " << bit;
      ASSERT_TRUE(Contains(status, file)) << status;
      FlipBit(file, byte, bit);
    }
  }
  ASSERT_OK(VerifyCheckpoint(dir));
}

TEST(CheckpointDamage, EveryBitOfTheManifestCounts) {
  const TestFolder folder;
  const std::string dir = Save(SmallRun(folder.path()).request), path = dir + "/manifest.pb", good = ReadAll(path);
  for (size_t bit = 0; bit < good.size() * 8; bit += bit < 400 ? 1 : 7) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    WriteAll(path, bad);
    ASSERT_FALSE(ReadCheckpointMeta(dir).ok()) << bit;
  }
  for (size_t length = 0; length < good.size(); length += 1 + length / 20) {
    WriteAll(path, good.substr(0, length));
    ASSERT_FALSE(ReadCheckpointMeta(dir).ok()) << length;
  }
}

TEST(CheckpointDamage, AFileOfAnotherSizeIsNamedBeforeAnythingIsRead) {
  const TestFolder folder;
  SmallRun run(folder.path());
  const std::string dir = Save(run.request), file = dir + "/optimizer/state-00001-of-00001.safetensors";
  const std::string good = ReadAll(file);
  float scalar = 0;
  const std::vector<StateTensor> wanted = {{"optimizer.scalar", {}, MakeBox({}, {}), DType::kF32, &scalar}};
  WriteAll(file, good.substr(0, good.size() - 1));
  const absl::Status cut = RestoreState(dir, wanted);
  EXPECT_TRUE(Contains(cut, file) && Contains(cut, "the manifest says")) << cut;
  std::filesystem::remove(file);
  EXPECT_TRUE(absl::IsNotFound(RestoreState(dir, wanted)));
  EXPECT_TRUE(Contains(StateHash(dir).status(), file));
}

TEST(CheckpointDamage, AManifestThatLiesIsRefused) {
  const TestFolder folder;
  const std::string dir = Save(SmallRun(folder.path()).request);
  const auto good = ReadManifest(dir);
  ASSERT_OK(good.status());
  const auto refused = [&](auto change, std::string_view expected) {
    Manifest bad = *good;
    change(bad);
    const absl::Status status = WriteManifest(folder.path(), bad);  // uses the reader's own check
    EXPECT_TRUE(Contains(status, expected)) << expected << ": " << status;
  };
  refused([](Manifest& m) { m.meta.step = -1; }, "negative");
  for (const char* name : {"../x", "/etc/passwd", "a/../b", "a/b/c", "a\nb", "", "manifest.pb"}) {
    refused([name](Manifest& m) { m.files[0].name = name; }, "not a safe file name");
  }
  refused([](Manifest& m) { m.files[0].bytes = -5; }, "negative size");
  refused([](Manifest& m) { m.files.push_back(m.files[0]); }, "listed twice");
  refused([](Manifest& m) { m.state[0].file = "config.jso"; }, "is not listed");
  refused([](Manifest& m) { m.state[0].box.rank = 2; }, "differ in rank");
  refused([](Manifest& m) { m.state[0].shape = {1, 1, 1, 1, 1}; }, "more than four dims");
  refused([](Manifest& m) { m.weights[0].shape.clear(); }, "differ in rank");
  refused([](Manifest& m) { m.state[0].box.offsets[0] = -1; }, "outside its shape");
  refused([](Manifest& m) { m.state[0].box.sizes[0] = int64_t{1} << 62; }, "outside its shape");
  refused([](Manifest& m) { m.state[0].shape[0] = std::numeric_limits<int64_t>::max(); }, "2^63 bytes");
  refused([](Manifest& m) { m.state[0].box.sizes[0] = m.state[0].shape[0] = int64_t{1} << 40; }, "larger than file");
  refused([](Manifest& m) { m.state.back().name = m.state[0].name; }, "differ in dtype or shape");
}

TEST(CheckpointDamage, AManifestOfAnotherVersionIsNamed) {
  const TestFolder folder;
  const std::string dir = Save(SmallRun(folder.path()).request);
  std::string bytes = ReadAll(dir + "/manifest.pb");
  ASSERT_EQ(bytes.substr(0, 2), "\x08\x01");  // field 1: version 1
  bytes[1] = 2;
  WriteAll(dir + "/manifest.pb", bytes);
  const absl::Status status = VerifyCheckpoint(dir);
  EXPECT_TRUE(Contains(status, "format version 2") && Contains(status, dir)) << status;
}

TEST(CheckpointDamage, AHugeClaimedTensorCostsNoMemory) {
  const TestFolder folder;
  const std::string dir = Save(SmallRun(folder.path()).request);
  auto manifest = ReadManifest(dir);
  ASSERT_OK(manifest.status());
  for (StoredBox& box : manifest->state) {
    if (box.name == "optimizer.bias") box.shape[0] = int64_t{1} << 60;
  }
  ASSERT_OK(WriteManifest(dir, *manifest));
  EXPECT_TRUE(Contains(StateHash(dir).status(), "lacks"));
}

TEST(CheckpointDamage, TheNewestThatVerifiesIsFoundAndOthersAreNamed) {
  const TestFolder folder;
  for (const int64_t step : {1, 2, 3, 4, 5}) Save(SmallRun(folder.path(), step).request);
  FlipBit(folder.File("step_5/model.safetensors"), 300, 3);
  const std::string manifest = folder.File("step_4/manifest.pb");
  std::filesystem::resize_file(manifest, std::filesystem::file_size(manifest) / 2);
  std::filesystem::remove(folder.File("step_3/manifest.pb"));
  std::filesystem::remove_all(folder.File("step_6"));
  std::filesystem::copy(folder.File("step_1"), folder.File("step_6"), std::filesystem::copy_options::recursive);
  std::vector<std::string> warnings;
  const auto latest = FindLatestCheckpoint(folder.path(), &warnings);
  ASSERT_OK(latest.status());
  EXPECT_EQ(latest->value_or("none"), folder.File("step_2"));
  ASSERT_EQ(warnings.size(), 4u);
  EXPECT_NE(warnings[0].find("holds step 1"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[1].find("model.safetensors is damaged"), std::string::npos) << warnings[1];
  EXPECT_NE(warnings[2].find("step_4/manifest.pb"), std::string::npos) << warnings[2];
  EXPECT_NE(warnings[3].find("step_3/manifest.pb"), std::string::npos) << warnings[3];
}

TEST(CheckpointDamage, LeftoversOfDeadProcessesGoAndThoseOfLivingOnesStay) {
  const TestFolder folder;
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  waitpid(dead, nullptr, 0);
  const std::string gone = folder.File(".tmp_step_3_" + std::to_string(dead));
  const std::string own = folder.File(".tmp_step_4_" + std::to_string(getpid()));
  const std::string alive = folder.File(".tmp_step_5_1"), other = folder.File(".tmp_step_x");
  for (const std::string& path : {gone, own, alive, other}) std::filesystem::create_directories(path + "/optimizer");
  ASSERT_OK(RemoveLeftovers(folder.path()));
  EXPECT_FALSE(std::filesystem::exists(gone));
  EXPECT_FALSE(std::filesystem::exists(own));
  EXPECT_TRUE(std::filesystem::exists(alive));
  EXPECT_TRUE(std::filesystem::exists(other));
}

TEST(CheckpointFailure, AFullDiskLeavesTheOldCheckpointAndNothingElse) {
  const TestFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) GTEST_SKIP() << "may not mount a tmpfs";
  SmallRun run(folder.path(), 1);
  Save(run.request);
  std::vector<float> large(100'000);
  run.request.optimizer.push_back({"m", {100'000}, MakeBox({0}, {100'000}), DType::kF32, large.data()});
  run.request.meta.step = 2;
  const absl::Status status = SaveCheckpoint(run.request).status();
  const std::vector<std::string> names = NamesIn(folder.path());
  const auto latest = FindLatestCheckpoint(folder.path(), nullptr);
  ASSERT_EQ(umount(folder.path().c_str()), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  for (const char* part : {"step 2 was not written", "training can go on", "disk full", "optimizer/state", "free "}) {
    EXPECT_TRUE(Contains(status, part)) << part << ": " << status;
  }
  EXPECT_EQ(names, std::vector<std::string>{"step_1"});
  EXPECT_EQ(latest->value_or("none"), folder.File("step_1"));
}

TEST(CheckpointFailure, AFolderThatCannotBeWrittenIsAnErrorThatNamesIt) {
  const TestFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec |
                                                  std::filesystem::perms::others_read |
                                                  std::filesystem::perms::others_exec);
  const bool is_root = geteuid() == 0;
  ASSERT_EQ(is_root ? seteuid(65534) : 0, 0);  // root may write everywhere
  const absl::Status status = SaveCheckpoint(SmallRun(folder.path()).request).status();
  const absl::Status parent = SaveCheckpoint(SmallRun(folder.File("a/b")).request).status();
  ASSERT_EQ(is_root ? seteuid(0) : 0, 0);
  EXPECT_TRUE(absl::IsPermissionDenied(status) && Contains(status, folder.path())) << status;
  EXPECT_TRUE(absl::IsPermissionDenied(parent) && Contains(parent, folder.path())) << parent;
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(CheckpointFailure, ANameThatCannotBeReadBackIsNeverPublished) {
  const TestFolder folder;
  SmallRun run(folder.path());
  run.request.optimizer[0].name = "tab\there";
  EXPECT_FALSE(SaveCheckpoint(run.request).ok());
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

// Deals the tensors out to several writers, which write one after the other.
absl::Status SaveInTurn(const SaveRequest& request, int num_parts) {
  const auto folder = PrepareSave(request.parent, request.meta.step);
  if (!folder.ok()) return folder.status();
  std::vector<std::string> fragments;
  for (int part = 0; part < num_parts; ++part) {
    SaveRequest own = request;
    for (auto* tensors : {&own.weights, &own.optimizer}) {
      const std::vector<StateTensor> all = std::exchange(*tensors, {});
      for (size_t i = static_cast<size_t>(part); i < all.size(); i += static_cast<size_t>(num_parts)) {
        tensors->push_back(all[i]);
      }
    }
    fragments.push_back(WritePart(own, *folder, {.index = part, .count = num_parts}));
  }
  return PublishSave(request, *folder, fragments).status();
}

enum class Outcome { kKilled, kFinished, kNotPermitted };

// Saves in a child process and kills that before its system call number `stop` begins (even) or after it ended (odd).
// Sets `stop` to the number of stops that were passed.
Outcome SaveAndKillAt(const SaveRequest& request, int num_parts, int& stop) {
  const int limit = stop;
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(2);
    raise(SIGSTOP);
    _exit(SaveInTurn(request, num_parts).ok() ? 0 : 1);
  }
  int state = 0;
  waitpid(child, &state, 0);
  if (WIFEXITED(state)) return Outcome::kNotPermitted;
  for (stop = 0; stop < limit; ++stop) {
    ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    waitpid(child, &state, 0);
    if (!WIFSTOPPED(state)) break;
  }
  if (WIFSTOPPED(state)) {
    kill(child, SIGKILL);
    waitpid(child, &state, 0);
    return Outcome::kKilled;
  }
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0) << "the save failed";
  return Outcome::kFinished;
}

// The newest checkpoint is sound, has one of the allowed states, and nothing else lies about.
std::string HashAfterDeath(const std::string& parent) {
  std::vector<std::string> warnings;
  EXPECT_TRUE(RemoveLeftovers(parent).ok());
  const auto latest = FindLatestCheckpoint(parent, &warnings);
  EXPECT_TRUE(latest.ok()) << latest.status();
  EXPECT_TRUE(warnings.empty()) << warnings[0];
  for (const std::string& name : NamesIn(parent)) EXPECT_TRUE(name.starts_with("step_")) << name;
  return latest.ok() && latest->has_value() ? StateHash(**latest).value_or("damaged") : "none";
}

struct Death {
  int64_t steps_there;
  int num_parts;
};
class CheckpointDeath : public testing::TestWithParam<Death> {};

// The folder holds step 1 (or steps 1 and 2); a second state of step 2 is being saved, in one part or in several.
TEST_P(CheckpointDeath, BeforeOrAfterAnySystemCallLeavesTheOldOrTheNewState) {
  SmallRun run("", 2);
  run.request.files.clear();
  run.counts[0] = 100;
  std::string old_hash;
  const auto prepare = [&](const TestFolder& folder) {
    for (int64_t step = 1; step <= GetParam().steps_there; ++step) {
      old_hash = *StateHash(Save(SmallRun(folder.path(), step).request));
    }
    run.request.parent = folder.path();
  };
  const TestFolder finished;
  prepare(finished);
  int stops = std::numeric_limits<int>::max();
  if (SaveAndKillAt(run.request, GetParam().num_parts, stops) == Outcome::kNotPermitted)
    GTEST_SKIP() << "may not trace a process";
  const std::string new_hash = HashAfterDeath(finished.path());
  ASSERT_NE(new_hash, old_hash);

  int old_states = 0, new_states = 0;
  const int stride = (stops / 60) | 1;  // odd: both before and after calls
  for (int stop = 0; stop < stops; stop += stride) {
    const TestFolder folder;
    prepare(folder);
    int reached = stop;
    if (SaveAndKillAt(run.request, GetParam().num_parts, reached) == Outcome::kFinished)
      continue;  // memory took a call less this time
    const std::string hash = HashAfterDeath(folder.path());
    ASSERT_TRUE(hash == old_hash || hash == new_hash) << "killed at " << stop << ": " << hash;
    EXPECT_TRUE(hash == new_hash || new_states == 0) << "killed at " << stop;  // once new, always new
    ++(hash == old_hash ? old_states : new_states);
  }
  EXPECT_GT(old_states, 10);
  EXPECT_GT(new_states, 0);
}

INSTANTIATE_TEST_SUITE_P(StepsThereAndParts, CheckpointDeath,
                         testing::Values(Death{1, 1}, Death{2, 1}, Death{1, 3}, Death{2, 3}));

// Saves steps for ever and reports each with a byte; the state of step N is N.
[[noreturn]] void SaveUntilKilled(const std::string& parent, int64_t first, int pipe) {
  std::vector<float> values(200'000);
  for (int64_t step = first;; ++step) {
    std::fill(values.begin(), values.end(), static_cast<float>(step));
    SaveRequest request;
    request.parent = parent;
    request.meta.step = step;
    const int64_t size = static_cast<int64_t>(values.size()), half = size / 2;
    request.weights = {{"w", {size}, MakeBox({0}, {size}), DType::kF32, values.data()}};
    request.optimizer = {{"m", {size}, MakeBox({0}, {half}), DType::kF32, values.data()},
                         {"m", {size}, MakeBox({half}, {half}), DType::kF32, values.data() + half}};
    request.max_file_bytes = 400'000;
    if (!SaveCheckpoint(request).ok() || !RemoveOldCheckpoints(parent, 2).ok() || write(pipe, "s", 1) != 1) _exit(1);
  }
}

TEST(CheckpointFailure, DeathAtAnyMomentLeavesAWholeCheckpoint) {
  const TestFolder folder(std::filesystem::temp_directory_path());  // on a disk, where fsync takes its time
  std::mt19937 random(5);
  int64_t newest = 0;
  for (int round = 0; round < 20; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) SaveUntilKilled(folder.path(), newest + 1, ends[1]);
    close(ends[1]);
    char report = 0;
    const int64_t wait_for = round == 0 ? 1 : static_cast<int64_t>(random() % 2);
    for (int64_t i = 0; i < wait_for; ++i) ASSERT_EQ(read(ends[0], &report, 1), 1) << "the child failed to save";
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ends[0]);
    std::vector<std::string> warnings;
    ASSERT_OK(RemoveLeftovers(folder.path()));
    const auto latest = FindLatestCheckpoint(folder.path(), &warnings);
    ASSERT_OK(latest.status());
    ASSERT_TRUE(latest->has_value());
    EXPECT_TRUE(warnings.empty()) << warnings[0];
    for (const std::string& name : NamesIn(folder.path())) EXPECT_TRUE(name.starts_with("step_")) << name;
    const int64_t step = ReadCheckpointMeta(**latest)->step;
    EXPECT_GE(step, newest + wait_for);
    newest = step;
    std::vector<float> values(200'000);
    ASSERT_OK(RestoreState(**latest, {{"m", {200'000}, MakeBox({0}, {200'000}), DType::kF32, values.data()}}));
    EXPECT_EQ(values, std::vector<float>(200'000, static_cast<float>(step)));
  }
}

}  // namespace
}  // namespace conclave::core
