// SPDX-License-Identifier: Apache-2.0
#include "data/token_cache.h"

#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<TokenSource> Open(const TempFolder& folder, const std::string& path, const LoadOptions& options = {},
                                 const std::string& field = "text") {
  core::SourceConfig source;
  source.path = path;
  source.field = field;
  return OpenTokenSource(source, "auto", folder.Path("cache"), ByteTokenizer(), options);
}

std::string Text(const TokenSource& source) {
  std::vector<int32_t> ids(static_cast<size_t>(source.tokens.num_tokens()));
  source.tokens.Read(0, ids);
  return Decode(ByteTokenizer(), ids);
}

// Counts how often something is tokenized, hashed or verified.
struct Phases {
  int hashing = 0, tokenizing = 0, verifying = 0;
  LoadOptions Options() {
    return {.on_progress = [this](const LoadProgress& progress) {
      hashing += progress.phase == LoadProgress::Phase::kHashing;
      tokenizing += progress.phase == LoadProgress::Phase::kTokenizing;
      verifying += progress.phase == LoadProgress::Phase::kVerifying;
    }};
  }
};

std::vector<fs::path> Entries(const TempFolder& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder.Path("cache"))) {
    if (entry.path().filename() != "sources") entries.push_back(entry.path());
  }
  return entries;
}

void MakeOld(const std::string& path) {
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(10));
}

// Documents of all kinds and lengths, also longer than a chunk.
std::string ManyDocuments() {
  std::string lines;
  for (int i = 0; i < 3000; ++i) {
    lines += "{\"text\": \"" + std::string(i % 7 == 0 ? 0 : static_cast<size_t>(i * 37 % 900), 'a' + i % 26) + "\"}\n";
    if (i % 1000 == 0) lines += "\n{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n";
  }
  std::string document;
  for (int i = 0; document.size() < (size_t{5} << 19); ++i) document += "line " + std::to_string(i) + "\\n";
  return lines + "{\"text\": \"" + document + "\"}\n";
}

TEST(TokenCache, HoldsTheSameBytesWhateverTheNumberOfThreads) {
  std::vector<std::string> bins, indexes;
  for (const int threads : {1, 2, 5}) {
    const TempFolder folder;
    folder.Write("d/a.jsonl", ManyDocuments());
    folder.Write("d/b.txt.gz", Gzip(ManyDocuments()));
    const auto source = Open(folder, folder.Path("d"), {.threads = threads});
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(source->num_files, 2);
    EXPECT_EQ(source->num_documents, 2568 + 3 + 1 + 1);
    EXPECT_EQ(source->num_empty_documents, 432);
    EXPECT_EQ(source->tokens.num_documents(), source->num_documents);
    bins.push_back(ReadBytes(source->tokens.bin().path()));
    indexes.push_back(ReadBytes(source->tokens.idx().path()));
  }
  for (const size_t i : {1, 2}) {
    EXPECT_TRUE(bins[i] == bins[0]);
    EXPECT_TRUE(indexes[i] == indexes[0]);
  }
}

TEST(TokenCache, KeepsTokenizersFieldsAndTemplatesApart) {
  const TempFolder folder;
  core::SourceConfig source;
  source.path = folder.Write("a.jsonl", "{\"text\": \"some text\", \"other\": \"x\"}\n");
  const std::string golden = CONCLAVE_SOURCE_DIR "/tests/golden/tokenizers/";
  const auto bpe = LoadTokenizer(golden + "llama3"), other_bpe = LoadTokenizer(golden + "behaviors");
  ASSERT_TRUE(bpe.ok() && other_bpe.ok()) << bpe.status() << other_bpe.status();
  const auto num_tokens = [&](const Tokenizer& tokenizer, const std::string& chat_template) {
    const auto tokens = OpenTokenSource(source, chat_template, folder.Path("cache"), tokenizer, {});
    return tokens.ok() ? tokens->tokens.num_tokens() : -1;
  };
  EXPECT_EQ(num_tokens(ByteTokenizer(), "auto"), 11);  // with <bos> and <eos>
  const int64_t num_bpe_tokens = num_tokens(**bpe, "auto");
  EXPECT_GT(num_bpe_tokens, 1);
  EXPECT_LT(num_bpe_tokens, 11);
  EXPECT_GT(num_tokens(**other_bpe, "auto"), 1);  // has no chat template either: only the tokenizer differs
  source.field = "other";
  EXPECT_EQ(num_tokens(ByteTokenizer(), "auto"), 3);
  source.field = "text";
  EXPECT_EQ(num_tokens(ByteTokenizer(), "plain"), 11);
  EXPECT_EQ(Entries(folder).size(), 5u);
  EXPECT_EQ(num_tokens(ByteTokenizer(), "auto"), 11);
  EXPECT_EQ(Entries(folder).size(), 5u);
}

TEST(TokenCache, IsReadByASecondStartWithoutTheData) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", "some text");
  MakeOld(path);
  Phases first, second;
  const auto before = Open(folder, path, first.Options()), after = Open(folder, path, second.Options());
  ASSERT_TRUE(before.ok() && after.ok()) << before.status() << after.status();
  EXPECT_GT(first.hashing, 0);
  EXPECT_GT(first.tokenizing, 0);
  EXPECT_EQ(second.hashing + second.tokenizing + second.verifying, 0);
  EXPECT_EQ(Text(*after), "some text");
  EXPECT_EQ(after->checksum, before->checksum);
  EXPECT_EQ(after->text_bytes, 9);
  EXPECT_EQ(Entries(folder).size(), 1u);
}

TEST(TokenCache, BelievesNoTimeOfAFileThatIsNewerThanTwoSeconds) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", "old text");
  const auto old_time = fs::last_write_time(path);
  EXPECT_EQ(Text(*Open(folder, path)), "old text");
  folder.Write("a.txt", "new text");    // of the same size,
  fs::last_write_time(path, old_time);  // within one tick of the clock
  EXPECT_EQ(Text(*Open(folder, path)), "new text");
}

TEST(TokenCache, FollowsContentsAndFieldButNotNamesOrTimes) {
  const TempFolder folder;
  const std::string line = "{\"text\": \"a\", \"body\": \"b\"}\n";
  const std::string path = folder.Write("a.jsonl", line);
  EXPECT_EQ(Text(*Open(folder, path)), "a");
  EXPECT_EQ(Text(*Open(folder, path, {}, "body")), "b");
  Phases moved;
  EXPECT_EQ(Text(*Open(folder, folder.Write("moved/c.jsonl", line), moved.Options())), "a");
  EXPECT_EQ(moved.tokenizing, 0);
  EXPECT_EQ(Text(*Open(folder, folder.Write("c.txt", line))), line);  // another format
  MakeOld(path);
  EXPECT_EQ(Text(*Open(folder, path)), "a");
  folder.Write("a.jsonl", "{\"text\": \"z\"}\n");
  EXPECT_EQ(Text(*Open(folder, path)), "z");
  EXPECT_EQ(Entries(folder).size(), 4u);
}

TEST(TokenCache, BuildsADamagedEntryAgain) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", "some text to keep");
  const auto fine = Open(folder, path);
  ASSERT_TRUE(fine.ok()) << fine.status();
  const fs::path entry = Entries(folder).at(0);
  const std::string bin = entry / "tokens.bin", idx = entry / "tokens.idx", json = entry / "tokens.json";
  auto flip = [](const std::string& file) {
    std::string bytes = ReadBytes(file);
    bytes[bytes.size() / 2] ^= 1;
    std::ofstream(file, std::ios::binary) << bytes;
  };
  const std::vector<std::function<void()>> damages = {
      [&] { flip(bin); },
      [&] { flip(idx); },
      [&] { flip(json); },
      [&] { fs::resize_file(bin, fs::file_size(bin) - 2); },
      [&] { fs::resize_file(idx, fs::file_size(idx) - 8); },
      [&] { fs::resize_file(json, 0); },
      [&] { fs::remove(bin); },
      [&] { fs::remove(json); },
      [&] { fs::remove_all(entry), fs::create_directory(entry); },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    damages[i]();
    Phases phases;
    const auto again = Open(folder, path, phases.Options());
    ASSERT_TRUE(again.ok()) << i << again.status();
    EXPECT_GT(phases.tokenizing, 0) << i;
    EXPECT_EQ(Text(*again), "some text to keep") << i;
    EXPECT_EQ(again->checksum, fine->checksum) << i;
  }
}

TEST(TokenCache, ReadsTheTokensAgainOnlyAfterTheyWereTouched) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", "some text");
  ASSERT_TRUE(Open(folder, path).ok());
  MakeOld(Entries(folder).at(0) / "tokens.bin");
  Phases first, second;
  ASSERT_TRUE(Open(folder, path, first.Options()).ok());
  ASSERT_TRUE(Open(folder, path, second.Options()).ok());
  EXPECT_GT(first.verifying, 0);
  EXPECT_EQ(second.verifying, 0);
  EXPECT_EQ(first.tokenizing + second.tokenizing, 0);
}

TEST(TokenCache, StoppedOrFailedLeavesNothingBehind) {
  const TempFolder folder;
  const std::string path = folder.Write("a.jsonl", ManyDocuments() + "{\n" + ManyDocuments());
  const auto broken = Open(folder, path, {.threads = 3});
  EXPECT_NE(broken.status().message().find("a.jsonl:3008:"), std::string::npos) << broken.status();
  EXPECT_TRUE(Entries(folder).empty());
  folder.Write("a.jsonl", ManyDocuments());
  int reports = 0;
  const auto stopped = Open(folder, path, {.threads = 2, .should_stop = [&] { return ++reports == 3; }});
  EXPECT_TRUE(absl::IsCancelled(stopped.status())) << stopped.status();
  EXPECT_EQ(reports, 3);
  EXPECT_TRUE(Entries(folder).empty());
  EXPECT_TRUE(Open(folder, path).ok());
}

TEST(TokenCache, IsBuiltOnceByTwoThatWantItAtTheSameTime) {
  const TempFolder folder;
  const std::string path = folder.Write("a.jsonl", ManyDocuments());
  Phases phases[2];
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (Phases& mine : phases) {
      threads.emplace_back([&] { good += Open(folder, path, mine.Options()).ok(); });
    }
  }
  EXPECT_EQ(good, 2);
  EXPECT_TRUE((phases[0].tokenizing > 0) != (phases[1].tokenizing > 0));
  EXPECT_EQ(Entries(folder).size(), 1u);
}

TEST(TokenCache, RemovesWhatAKilledProcessLeft) {
  const TempFolder folder;
  folder.Write("cache/0123.tmp/.lock", "");
  folder.Write("cache/0123.tmp/tokens.bin", "half");
  ASSERT_TRUE(Open(folder, folder.Write("a.txt", "text")).ok());
  EXPECT_EQ(Entries(folder).size(), 1u);
}

TEST(TokenCache, RefusesAFileThatChangesWhileItIsRead) {
  const TempFolder folder;
  const std::string path = folder.Write("a.txt", "some text");
  const auto source = Open(folder, path, {.on_progress = [&](const LoadProgress& progress) {
                             if (progress.phase == LoadProgress::Phase::kTokenizing)
                               folder.Write("a.txt", "some more text");
                           }});
  EXPECT_NE(source.status().message().find("a.txt: changed while it was read"), std::string::npos) << source.status();
  EXPECT_TRUE(Entries(folder).empty());
}

TEST(TokenCache, SaysWhatToDoAboutAFolderThatCannotBeWritten) {
  const TempFolder folder;
  folder.Write("cache", "a file, not a folder");
  const auto source = Open(folder, folder.Write("a.txt", "text"));
  EXPECT_NE(source.status().message().find(folder.Path("cache")), std::string::npos) << source.status();
  EXPECT_NE(source.status().message().find("data.cache"), std::string::npos) << source.status();
}

TEST(TokenCache, SaysHowMuchAFullDiskLacksAndLeavesNothingThere) {
  const TempFolder folder;
  fs::create_directory(folder.Path("cache"));
  if (::geteuid() != 0 || ::mount("tmpfs", folder.Path("cache").c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "mounting a small disk needs root";
  }
  const auto source = Open(folder, folder.Write("a.jsonl", ManyDocuments()));
  EXPECT_TRUE(absl::IsResourceExhausted(source.status())) << source.status();
  for (const std::string part : {"disk full", "MiB more than there is room for", "data.cache"}) {
    EXPECT_NE(source.status().message().find(part), std::string::npos) << source.status();
  }
  EXPECT_NE(source.status().message().find(folder.Path("cache")), std::string::npos) << source.status();
  EXPECT_TRUE(Entries(folder).empty());
  ::umount(folder.Path("cache").c_str());
}

TEST(TokenCache, UsesAPairOfTokenFilesWhereItIs) {
  const TempFolder folder;
  const auto text = Open(folder, folder.Write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"));
  ASSERT_TRUE(text.ok()) << text.status();
  fs::copy(text->tokens.bin().path(), folder.Path("pair.bin"));
  fs::copy(text->tokens.idx().path(), folder.Path("pair.idx"));
  MakeOld(folder.Path("pair.bin")), MakeOld(folder.Path("pair.idx"));
  for (const char* name : {"pair.bin", "pair.idx"}) {
    Phases first, second;
    const auto pair = Open(folder, folder.Path(name), first.Options());
    ASSERT_TRUE(pair.ok()) << pair.status();
    EXPECT_EQ(Text(*pair), "onetwo");
    EXPECT_EQ(pair->num_documents, 2);
    EXPECT_EQ(pair->largest_id, 257);
    EXPECT_EQ(Open(folder, folder.Path(name), second.Options())->largest_id, 257);
    EXPECT_GT(first.hashing, 0);
    EXPECT_EQ(second.hashing, 0);
  }
  EXPECT_EQ(Entries(folder).size(), 1u);  // that of the text
}

TEST(TokenCache, LiesWhereTheEnvironmentSays) {
  EXPECT_EQ(*CacheFolder("here"), "here");
  ::setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(*CacheFolder(""), "/x/conclave/tokens");
  ::setenv("XDG_CACHE_HOME", "relative", 1);  // to be ignored, says its specification
  ::setenv("HOME", "/h", 1);
  EXPECT_EQ(*CacheFolder(""), "/h/.cache/conclave/tokens");
  ::unsetenv("HOME");
  EXPECT_NE(CacheFolder("").status().message().find("data.cache"), std::string::npos);
}

}  // namespace
}  // namespace conclave::data
