// SPDX-License-Identifier: Apache-2.0
// Logits, losses, chosen experts, gradients and optimizer steps against what PyTorch and transformers computed: the small
// references in tests/golden, and the shared fixtures where they are.
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

std::vector<std::string> ReferenceFolders() {
  std::vector<std::string> folders;
  for (const char* parent : {CONCLAVE_SOURCE_DIR "/tests/golden", CONCLAVE_SOURCE_DIR "/../shared/fixtures"}) {
    if (!std::filesystem::is_directory(parent)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(parent)) {
      if (std::filesystem::exists(entry.path() / "reference.safetensors")) folders.push_back(entry.path().string());
    }
  }
  return folders;
}

TEST(Verify, ComputesWhatPyTorchAndTransformersCompute) {
  const std::vector<std::string> folders = ReferenceFolders();
  ASSERT_GE(folders.size(), 4u);  // those of tests/golden
  const TemporaryFolder work;
  for (const std::string& folder : folders) {
    const Outcome outcome = RunConclave(work, {"verify", folder, "--reference", folder + "/reference.safetensors"});
    EXPECT_EQ(outcome.code, 0) << folder << "\n" << outcome.out << outcome.err;
    EXPECT_NE(outcome.out.find("tensors within tolerance"), std::string::npos);
  }
}

TEST(Verify, ADumpVerifiesAndAnotherModelDoesNot) {
  const TemporaryFolder work;
  const std::string golden = CONCLAVE_SOURCE_DIR "/tests/golden/";
  const std::string dump = work / "dump.safetensors";
  ASSERT_EQ(RunConclave(work, {"verify", golden + "llama", "--reference", golden + "llama/reference.safetensors", "--dump", dump}).code, 0);
  EXPECT_EQ(RunConclave(work, {"verify", golden + "llama", "--reference", dump, "--tolerance", "1e-30"}).code, 0);
  const Outcome other = RunConclave(work, {"verify", golden + "qwen2", "--reference", dump});
  EXPECT_EQ(other.code, 1) << other.out << other.err;
}

}  // namespace
}  // namespace conclave::launch
