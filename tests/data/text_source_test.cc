// SPDX-License-Identifier: Apache-2.0
#include "data/text_source.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "data/document_encoder.h"
#include "data/text_cut.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

// What the documents of a file are, and what is wrong with it.
struct Contents {
  std::vector<std::string> documents, problems;
  int64_t num_empty_documents = 0;
};

Contents ReadAll(const std::string& path, const std::string& field = "text") {
  Contents contents;
  const auto files = ListSourceFiles(path);
  if (!files.ok()) {
    contents.problems.emplace_back(files.status().message());
    return contents;
  }
  const ByteTokenizer tokenizer;
  const RecordFormat format{.field = field};
  DocumentEncoder encoder(tokenizer, format);
  auto source = TextSource::Open(files->front());
  if (!source.ok()) {
    contents.problems.emplace_back(source.status().message());
    return contents;
  }
  TextChunk chunk;
  while (source->Next(chunk)) {
    const EncodedChunk encoded = encoder.Encode(std::move(chunk));
    contents.num_empty_documents += encoded.num_empty_documents;
    contents.problems.insert(contents.problems.end(), encoded.problems.begin(), encoded.problems.end());
    size_t at = 0;
    for (size_t i = 0; i < encoded.lengths.size(); ++i) {
      if (i > 0 || !encoded.continues_document) contents.documents.emplace_back();
      for (int64_t token = 0; token < encoded.lengths[i]; ++token, at += 2) {
        const int id = static_cast<unsigned char>(encoded.tokens[at]) + 256 * encoded.tokens[at + 1];
        if (!tokenizer.IsSpecial(id)) contents.documents.back() += tokenizer.TokenText(id);
      }
    }
    EXPECT_EQ(at, encoded.tokens.size());
  }
  return contents;
}

using Documents = std::vector<std::string>;

TEST(TextSource, ReadsATextFileAsOneDocument) {
  const TempFolder folder;
  const std::string text = "one\r\ntwo\n\n\xFFthree";
  EXPECT_EQ(ReadAll(folder.Write("a.txt", text)).documents, Documents{text});
  EXPECT_EQ(ReadAll(folder.Write("README", "\xEF\xBB\xBF" + text)).documents, Documents{text});
  EXPECT_EQ(ReadAll(folder.Write("a.txt.gz", Gzip(text))).documents, Documents{text});
  EXPECT_EQ(ReadAll(folder.Write("a.txt.zst", Zstd(text))).documents, Documents{text});
}

TEST(TextSource, ReadsOneDocumentPerLineOfJson) {
  const TempFolder folder;
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"a\\n\\u00e9\\ud83d\\ude00\"}\r\n"
      "\n  \n"
      "{\"id\": 1, \"nested\": {\"text\": [\"no\"]}, \"text\": \"b\"}\n"
      "{\"text\": \"c\", \"other\": {\"a\": 1, \"a\": 2}}\n"
      "{\"text\": \"\"}\n"
      "{\"text\": \"end\"}";
  const Documents expected = {"a\n\xC3\xA9\xF0\x9F\x98\x80", "b", "c", "end"};
  for (const auto& [name, contents] : std::vector<std::pair<std::string, std::string>>{
           {"a.jsonl", lines}, {"a.json", lines}, {"a.jsonl.gz", Gzip(lines)}, {"a.jsonl.zst", Zstd(lines)}}) {
    const Contents read = ReadAll(folder.Write(name, contents));
    EXPECT_EQ(read.documents, expected) << name;
    EXPECT_EQ(read.num_empty_documents, 1) << name;
    EXPECT_EQ(read.problems, Documents{}) << name;
  }
  EXPECT_EQ(ReadAll(folder.Write("b.jsonl", R"({"text": 1, "body": "x"})"), "body").documents, Documents{"x"});
}

TEST(TextSource, CountsAnEmptyFileAsAnEmptyDocument) {
  const TempFolder folder;
  EXPECT_EQ(ReadAll(folder.Write("a.txt", "")).num_empty_documents, 1);
  EXPECT_EQ(ReadAll(folder.Write("a.txt.zst", Zstd(""))).num_empty_documents, 1);
  EXPECT_EQ(ReadAll(folder.Write("a.jsonl", "")).num_empty_documents, 0);
}

TEST(TextSource, JoinsMembersFramesAndLinesAcrossBuffers) {
  const TempFolder folder;
  std::string lines, gzip, zstd;
  Documents expected;
  for (int i = 0; i < 40; ++i) {
    expected.push_back(std::string(40000 + i * 1000, static_cast<char>('a' + i % 26)));
    lines += "{\"text\": \"" + expected.back() + "\"}\n";
  }
  for (size_t begin = 0; begin < lines.size(); begin += 70001) {
    gzip += Gzip(lines.substr(begin, 70001));
    zstd += Zstd(lines.substr(begin, 70001));
  }
  EXPECT_EQ(ReadAll(folder.Write("plain.jsonl", lines)).documents, expected);
  EXPECT_EQ(ReadAll(folder.Write("packed.jsonl.gz", gzip)).documents, expected);
  EXPECT_EQ(ReadAll(folder.Write("padded.jsonl.gz", gzip + std::string(5000, '\0'))).documents, expected);
  EXPECT_EQ(ReadAll(folder.Write("packed.jsonl.zst", zstd)).documents, expected);
}

TEST(TextSource, CutsLongTextWhereWordsEndHoweverItIsRead) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; text.size() < (size_t{5} << 19); ++i) text += "line " + std::to_string(i) + "\n\n  and more\n";
  const Contents plain = ReadAll(folder.Write("a.txt", text));
  EXPECT_EQ(plain.documents, Documents{text});
  // Many frames arrive in other pieces than a plain file; the chunks must be the same.
  std::string frames;
  for (size_t begin = 0; begin < text.size(); begin += 99991) frames += Zstd(text.substr(begin, 99991));
  folder.Write("b.txt.zst", frames);
  std::vector<std::vector<std::string>> chunks;
  for (const char* name : {"a.txt", "b.txt.zst"}) {
    const auto files = ListSourceFiles(folder.Path(name));
    auto source = TextSource::Open(files->front());
    chunks.emplace_back();
    TextChunk chunk;
    while (source->Next(chunk)) chunks.back().push_back(chunk.text);
  }
  EXPECT_EQ(chunks[0], chunks[1]);
  ASSERT_EQ(chunks[0].size(), 3u);
  EXPECT_TRUE(chunks[0][0].ends_with("more\n"));
  EXPECT_TRUE(chunks[0][1].starts_with("line"));
}

TEST(TextCut, TakesTheFirstSafePlaceBehindEachLimit) {
  constexpr size_t kMiB = size_t{1} << 20;
  EXPECT_EQ(FirstPiece("short\ntext", Rest::kNone), 10u);
  EXPECT_EQ(FirstPiece("short\ntext", Rest::kFollows), 0u);
  const std::string words = std::string(kMiB - 2, 'x') + " y\n\nz\nwx";
  EXPECT_EQ(FirstPiece(words, Rest::kNone), kMiB + 4);  // not at blanks, not behind an empty line
  std::string blanks(6 * kMiB, 'x');
  blanks[2 * kMiB] = blanks[5 * kMiB] = ' ';
  EXPECT_EQ(FirstPiece(blanks, Rest::kFollows), 5 * kMiB);
  std::string solid;
  while (solid.size() < 9 * kMiB) solid += "\xE4\xB8\xAD";  // three bytes each
  EXPECT_EQ(FirstPiece(solid, Rest::kFollows), 8 * kMiB / 3 * 3);
  EXPECT_EQ(FirstPiece(std::string(9 * kMiB, '\x80'), Rest::kFollows), 8 * kMiB);
  EXPECT_EQ(FirstPiece(solid.substr(0, 8 * kMiB), Rest::kFollows), 0u);
}

TEST(TextSource, ReadsChatsFromMessages) {
  const TempFolder folder;
  const std::string chat =
      R"({"messages": [{"role": "user", "content": "hi", "name": ["x"]}, {"content": "yo", "role": "assistant"}]})";
  const Contents read =
      ReadAll(folder.Write("a.jsonl", chat + "\n{\"messages\": []}\n{\"messages\": [1], \"text\": \"t\"}"));
  EXPECT_EQ(read.problems, Documents{});
  EXPECT_EQ(read.documents, (Documents{"hiyo", "t"}));
  EXPECT_EQ(read.num_empty_documents, 1);
  EXPECT_EQ(ReadAll(folder.Path("a.jsonl"), "messages").documents, (Documents{"hiyo"}));
  EXPECT_EQ(ReadAll(folder.Path("a.jsonl"), "body").problems.front(),
            folder.Path("a.jsonl") + ":1: no field \"body\"; the object has: messages");
}

TEST(TextSource, SaysWhatIsWrongAndWhere) {
  const TempFolder folder;
  const std::string good = "{\"text\": \"x\"}\n";
  const std::string packed = Gzip(std::string(100000, 'x') + "tail"), frame = Zstd(std::string(100000, 'x') + "tail");
  std::string corrupt = packed, corrupt_frame = frame;
  corrupt[corrupt.size() - 6] ^= 1;              // in the checksum
  corrupt_frame[corrupt_frame.size() - 2] ^= 1;  // the same
  const std::string chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, ";
  struct Case {
    std::string name, contents, message;
  };
  const std::vector<Case> cases = {
      {"a.jsonl", good + good + "{\"text\": \"x\"\n", "a.jsonl:3:"},
      {"b.jsonl", "\n" + good + "nonsense\n", "b.jsonl:3:"},
      {"c.jsonl", good + "{\"body\": \"x\", \"id\": 2}", "c.jsonl:2: no field \"text\"; the object has: body, id"},
      {"d.jsonl", "{}", "d.jsonl:1: no field \"text\"; the object has: nothing"},
      {"e.jsonl", "{\"text\": 7}", "e.jsonl:1: the field \"text\" is a number, not a text"},
      {"f.jsonl", "{\"text\": null}", "the field \"text\" is null"},
      {"g.jsonl", "{\"text\": [\"x\"]}", "the field \"text\" is an array"},
      {"h.jsonl", "{\"text\": {\"text\": \"x\"}}", "the field \"text\" is an object"},
      {"i.jsonl", "[1]", "i.jsonl:1:1: an array, not a JSON object"},
      {"j.jsonl", "\"x\"", "j.jsonl:1:1: a text, not a JSON object"},
      {"k.jsonl", "{\"a\": " + std::string(100000, '[') + "\n", "k.jsonl:1:70: nested deeper than 64"},
      {"k2.jsonl", "{\"text\": \"x\", \"text\": \"y\"}", "k2.jsonl:1:15: duplicate key 'text'"},
      {"l.jsonl", "{\"text\": \"\xFF\"}", "l.jsonl:1:"},
      {"m.jsonl", "{\"text\": \"x\"} {\"text\": \"y\"}", "m.jsonl:1:"},
      {"n.jsonl", "{\"text\": 1e999999}", "n.jsonl:1:"},
      {"o.txt.gz", "no gzip at all", "o.txt.gz: the gzip data is corrupt"},
      {"p.txt.gz", packed.substr(0, packed.size() / 2), "p.txt.gz: the gzip data is cut off"},
      {"q.txt.gz", packed.substr(0, 5), "q.txt.gz: the gzip data is cut off"},
      {"r.txt.gz", corrupt, "r.txt.gz: the gzip data is corrupt"},
      {"s.txt.gz", packed + "garbage", "s.txt.gz: the gzip data is corrupt"},
      {"o.txt.zst", "no zstd at all", "o.txt.zst: the zstd data is corrupt"},
      {"p.txt.zst", frame.substr(0, frame.size() / 2), "p.txt.zst: the zstd data is cut off"},
      {"q.txt.zst", frame.substr(0, 3), "q.txt.zst: the zstd data is cut off"},
      {"r.txt.zst", corrupt_frame, "r.txt.zst: the zstd data is corrupt"},
      {"s.txt.zst", frame + "garbage", "s.txt.zst: the zstd data is corrupt"},
      {"t.parquet", "PAR1", "t.parquet: .parquet files are not read"},
      {"u.jsonl", chat + "{\"role\": \"tool\", \"content\": \"\"}]}", "messages.1.role is \"tool\"; known are system"},
      {"v.jsonl", chat + "{\"role\": \"user\"}]}", "v.jsonl:1: messages.1 has no content"},
      {"w.jsonl", chat + "{\"content\": \"x\"}]}", "messages.1 has no role"},
      {"x.jsonl", chat + "{\"content\": [\"x\"], \"role\": \"user\"}]}", "messages.1.content is an array, not a text"},
      {"y.jsonl", chat + "7]}", "messages.1 is a number, not an object"},
      {"z.jsonl", "{\"messages\": {\"role\": \"user\"}}", "no field \"text\"; the object has: messages"},
  };
  for (const Case& test : cases) {
    const Contents contents = ReadAll(folder.Write(test.name, test.contents));
    ASSERT_EQ(contents.problems.size(), 1u) << test.name;
    EXPECT_NE(contents.problems[0].find(test.message), std::string::npos) << contents.problems[0];
  }
  EXPECT_NE(ReadAll(folder.Path("missing.txt")).problems.at(0).find("missing.txt: No such file"), std::string::npos);
}

TEST(TextSource, GoesOnBehindABrokenRecord) {
  const TempFolder folder;
  const std::string good = "{\"text\": \"x\"}\n", bad = "{]\n";
  const Contents contents = ReadAll(folder.Write("a.jsonl", good + bad + good + bad + bad + good));
  EXPECT_EQ(contents.documents, (Documents{"x", "x", "x"}));
  ASSERT_EQ(contents.problems.size(), 3u);
  EXPECT_NE(contents.problems[2].find("a.jsonl:5:"), std::string::npos);
  const Contents cut = ReadAll(folder.Write("b.jsonl.gz", Gzip(good + good) + "\x1f\x8b\x08"));
  EXPECT_EQ(cut.problems.size(), 1u);
}

TEST(TextSource, RefusesALineOfMoreThan64MiBAndGoesOn) {
  const TempFolder folder;
  const size_t around = std::string("{\"text\": \"\"}").size(), most = size_t{64} << 20;
  const std::string longest = "{\"text\": \"" + std::string(most - around, 'x') + "\"}\n";
  const std::string longer = "{\"text\": \"" + std::string(most - around + 1, 'x') + "\"}\n";
  const std::string much_longer = "{\"text\": \"" + std::string(most + (1 << 20), 'x') + "\"}\n";
  const std::string good = "{\"text\": \"x\"}\n";
  const auto files =
      ListSourceFiles(folder.Write("a.jsonl.zst", Zstd(good + longer + good + much_longer + good + longest)));
  const ByteTokenizer tokenizer;
  const std::string field = "text";
  const RecordFormat format{.field = field};
  DocumentEncoder encoder(tokenizer, format);
  auto source = TextSource::Open(files->front());
  Documents problems;
  std::vector<int64_t> lengths;
  TextChunk chunk;
  while (source->Next(chunk)) {
    const EncodedChunk encoded = encoder.Encode(std::move(chunk));
    problems.insert(problems.end(), encoded.problems.begin(), encoded.problems.end());
    lengths.insert(lengths.end(), encoded.lengths.begin(), encoded.lengths.end());
  }
  EXPECT_EQ(problems, (Documents{folder.Path("a.jsonl.zst") + ":2: more than 64 MiB in one line; split it",
                                 folder.Path("a.jsonl.zst") + ":4: more than 64 MiB in one line; split it"}));
  EXPECT_EQ(lengths, (std::vector<int64_t>{3, 3, 3, static_cast<int64_t>(most - around) + 2}));
}

TEST(TextSource, RefusesAZstdWindowAbove128MiB) {
  const TempFolder folder;
  EXPECT_EQ(ReadAll(folder.Write("a.txt.zst", Zstd("text", 27))).documents, Documents{"text"});
  const Contents contents = ReadAll(folder.Write("b.txt.zst", Zstd("text", 28)));
  ASSERT_EQ(contents.problems.size(), 1u);
  EXPECT_NE(contents.problems[0].find("window above 128 MiB"), std::string::npos) << contents.problems[0];
}

TEST(TextSource, NeverCrashesOnPrefixesOfAPackedFile) {
  const TempFolder folder;
  const std::string one = "{\"text\": \"one\"}\n", two = "{\"text\": \"two\"}\n";
  int num_complete = 0;
  const std::string gzip = Gzip(one) + Gzip(two), zstd = Zstd(one) + Zstd(two);
  for (size_t size = 0; size <= gzip.size(); ++size) {
    num_complete += ReadAll(folder.Write("prefix.jsonl.gz", gzip.substr(0, size))).problems.empty();
  }
  EXPECT_EQ(num_complete, 3);  // nothing, and after each member
  num_complete = 0;
  for (size_t size = 0; size <= zstd.size(); ++size) {
    num_complete += ReadAll(folder.Write("prefix.jsonl.zst", zstd.substr(0, size))).problems.empty();
  }
  EXPECT_EQ(num_complete, 3);
}

}  // namespace
}  // namespace conclave::data
