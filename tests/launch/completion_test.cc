// SPDX-License-Identifier: Apache-2.0
// The completion script in a real bash, and the reference page that is made from the same tree.
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

using WordSet = std::set<std::string>;

class BashCompletion : public ::testing::Test {
 protected:
  // What bash offers for the last word; "compopt ..." where the function sets an option of the completion.
  WordSet Complete(const std::vector<std::string>& words) {
    std::string script = "cd '" + (folder_ / "") + "'\nsource <('" CONCLAVE_BINARY "' completion bash)\n";
    script += "compopt() { echo \"compopt $*\"; }\nCOMP_WORDS=(conclave";
    for (const std::string& word : words) script += " '" + word + "'";
    script += ")\nCOMP_CWORD=" + std::to_string(words.size()) + "\n_conclave\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    WriteFile(folder_ / "script", script);
    const std::string command =
        "bash --norc --noprofile '" + (folder_ / "script") + "' >'" + (folder_ / "offered") + "' 2>&1";
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::istringstream lines(ReadFile(folder_ / "offered"));
    WordSet offered;
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) offered.insert(line);
    }
    return offered;
  }

  TemporaryFolder folder_;
};

TEST_F(BashCompletion, OffersCommandsFlagsAndChoices) {
  EXPECT_EQ(Complete({"tr"}), WordSet({"train"}));
  EXPECT_EQ(Complete({"generate", "x", "--top"}), WordSet({"--top-k", "--top-p"}));
  EXPECT_EQ(Complete({"generate", "x", "--precision", ""}), WordSet({"f32", "bf16"}));
  EXPECT_EQ(Complete({"completion", ""}), WordSet({"bash"}));
  EXPECT_EQ(Complete({"schedule", "d"}), WordSet({"dualpipe", "dualpipev"}));
  EXPECT_EQ(Complete({"schedule", "1"}), WordSet({"1f1b"}));
  EXPECT_EQ(Complete({"generate", "x", "--seed", ""}), WordSet());
  EXPECT_EQ(Complete({"generate", "--chat", "--sy"}), WordSet({"--system"}));
}

TEST_F(BashCompletion, OffersFilesAndFoldersWherePathsStand) {
  WriteFile(folder_ / "my config.yaml", "");
  std::filesystem::create_directory(folder_ / "my run");
  EXPECT_EQ(Complete({"train", "my"}), WordSet({"compopt -o filenames", "my config.yaml", "my run"}));
  EXPECT_EQ(Complete({"inspect", "my"}), WordSet({"compopt -o filenames", "my run"}));
  EXPECT_EQ(Complete({"verify", "x", "--reference", "my c"}), WordSet({"compopt -o filenames", "my config.yaml"}));
  EXPECT_EQ(Complete({"eval", "x", "a", "b", "my c"}), WordSet({"compopt -o filenames", "my config.yaml"}));
  EXPECT_EQ(Complete({"train", "c.yaml", "model.from", "=", "my r"}), WordSet({"compopt -o filenames", "my run"}));
}

TEST_F(BashCompletion, OffersConfigKeysWithoutABlankBehind) {
  EXPECT_EQ(Complete({"train", "c.yaml", "optim.l"}), WordSet({"compopt -o nospace", "optim.lr="}));
  EXPECT_EQ(Complete({"train", "--dry-run", "c.yaml", "run.d"}), WordSet({"compopt -o nospace", "run.dir="}));
  EXPECT_EQ(Complete({"train", "--threads", "2", "c.yaml", "data.train.0.pa"}),
            WordSet({"compopt -o nospace", "data.train.0.path="}));
  EXPECT_EQ(Complete({"help", "batch.r"}), WordSet({"batch.ramp", "batch.ramp.start", "batch.ramp.steps"}));
}

TEST(ReferencePage, IsThatOfThisProgram) {
  const TemporaryFolder folder;
  EXPECT_TRUE(RunConclave(folder, {"help", "--markdown"}).out == ReadFile(CONCLAVE_SOURCE_DIR "/configs/README.md"))
      << "configs/README.md is out of date; rewrite it with: conclave help --markdown > configs/README.md";
}

}  // namespace
}  // namespace conclave::launch
