// SPDX-License-Identifier: Apache-2.0
#include "data/source_files.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

// Paths relative to the folder.
std::vector<std::string> List(const TempFolder& folder, const std::string& path) {
  const auto files = ListSourceFiles(folder.Path(path));
  EXPECT_TRUE(files.ok()) << files.status();
  std::vector<std::string> names;
  for (const SourceFile& file : *files) names.push_back(file.path.substr(folder.Path("").size()));
  return names;
}

std::string Error(const std::string& path) { return std::string(ListSourceFiles(path).status().message()); }

using Names = std::vector<std::string>;

TEST(SourceFiles, OfAFolderAreAllBelowItWithAKnownEndingInOrder) {
  const TempFolder folder;
  for (const char* name : {"d/b.jsonl.zst", "d/a.txt", "d/sub/c.md.gz", "d/sub/deep/x.json", "d/B.txt", "d/image.png",
                           "d/.hidden.txt", "d/.git/config.txt", "d/tokens.bin", "other.txt"}) {
    folder.Write(name, "x");
  }
  EXPECT_EQ(List(folder, "d"), (Names{"d/B.txt", "d/a.txt", "d/b.jsonl.zst", "d/sub/c.md.gz", "d/sub/deep/x.json"}));
}

TEST(SourceFiles, OfAPatternAreThoseThatMatch) {
  const TempFolder folder;
  for (const char* name : {"p/2.jsonl", "p/10.jsonl", "p/1.jsonl.gz", "p/q/3.jsonl", "p/[x]?.txt"}) {
    folder.Write(name, "x");
  }
  EXPECT_EQ(List(folder, "p/*.jsonl"), (Names{"p/10.jsonl", "p/2.jsonl"}));
  EXPECT_EQ(List(folder, "p/*/[0-9].jsonl"), Names{"p/q/3.jsonl"});
  EXPECT_EQ(List(folder, "p/[x]?.txt"), Names{"p/[x]?.txt"});  // a file of that very name
  EXPECT_EQ(Error(folder.Path("p/*.txt.zst")), folder.Path("p/*.txt.zst") + ": no file matches this pattern");
  EXPECT_EQ(Error(folder.Path("?")), folder.Path("?") + ": no file matches this pattern");  // a folder does
}

TEST(SourceFiles, AreReadAsTheirNameSays) {
  const TempFolder folder;
  auto format = [&](const std::string& name) { return ListSourceFiles(folder.Write(name, "abc"))->front().format; };
  EXPECT_EQ(format("a.txt"), FileFormat::kText);
  EXPECT_EQ(format("a"), FileFormat::kText);
  EXPECT_EQ(format("a.jsonl.txt"), FileFormat::kText);
  EXPECT_EQ(format("a.jsonl"), FileFormat::kJsonLines);
  EXPECT_EQ(format("a.json.zst"), FileFormat::kJsonLines);
  folder.Write("t.idx", "");
  EXPECT_EQ(format("t.bin"), FileFormat::kTokens);
  EXPECT_EQ(ListSourceFiles(folder.Path("t.idx"))->front().path, folder.Path("t"));
  EXPECT_EQ(ListSourceFiles(folder.Path("t.idx"))->front().bytes, 3);
}

TEST(SourceFiles, SayWhatIsMissing) {
  const TempFolder folder;
  EXPECT_NE(Error(folder.Path("no.txt")).find("no.txt: No such file"), std::string::npos);
  folder.Write("empty/x.png", "");
  EXPECT_NE(Error(folder.Path("empty")).find("empty: the folder has no .txt"), std::string::npos);
  folder.Write("lone.bin", "");
  EXPECT_NE(Error(folder.Path("lone.bin")).find("lone.idx does not exist"), std::string::npos);
  EXPECT_NE(Error(folder.Path("lone.idx")).find("lone.idx does not exist"), std::string::npos);
  folder.Write("two/a.bin", ""), folder.Write("two/a.idx", "");
  EXPECT_NE(Error(folder.Path("two/*")).find("must be a source of its own"), std::string::npos);
}

}  // namespace
}  // namespace conclave::data
