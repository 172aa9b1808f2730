// SPDX-License-Identifier: Apache-2.0
#include "data/text_source.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/status_macros.h"
#include "tests/data/temp_folder.h"

namespace conclave::data {
namespace {

absl::StatusOr<std::vector<std::string>> ReadAll(const std::string& path, const std::string& field = "text") {
  ASSIGN_OR_RETURN(TextSource source, TextSource::Open(path, field));
  std::vector<std::string> documents;
  std::string document;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, source.Next(document));
    if (!found) return documents;
    documents.push_back(document);
  }
}

using Documents = std::vector<std::string>;

TEST(TextSource, ReadsATextFileAsOneDocument) {
  const TempFolder folder;
  const std::string text = "one\r\ntwo\n\n\xFFthree";
  EXPECT_EQ(*ReadAll(folder.Write("a.txt", text)), Documents{text});
  EXPECT_EQ(*ReadAll(folder.Write("README", "\xEF\xBB\xBF" + text)), Documents{text});
  EXPECT_EQ(*ReadAll(folder.Write("a.txt.gz", Gzip(text))), Documents{text});
}

TEST(TextSource, ReadsOneDocumentPerLineOfJson) {
  const TempFolder folder;
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"a\\n\\u00e9\\ud83d\\ude00\"}\r\n"
      "\n  \n"
      "{\"id\": 1, \"nested\": {\"text\": [\"no\"]}, \"text\": \"b\"}\n"
      "{\"text\": \"first\", \"text\": \"last\"}\n"
      "{\"text\": \"\"}\n"
      "{\"text\": \"end\"}";
  const Documents expected = {"a\n\xC3\xA9\xF0\x9F\x98\x80", "b", "last", "end"};
  EXPECT_EQ(*ReadAll(folder.Write("a.jsonl", lines)), expected);
  EXPECT_EQ(*ReadAll(folder.Write("a.jsonl.gz", Gzip(lines))), expected);
  EXPECT_EQ(*ReadAll(folder.Write("b.jsonl", R"({"text": 1, "body": "x"})"), "body"), Documents{"x"});
}

TEST(TextSource, CountsEmptyDocuments) {
  const TempFolder folder;
  auto source =
      TextSource::Open(folder.Write("a.jsonl", "{\"text\":\"\"}\n{\"text\":\"x\"}\n{\"text\":\"\"}\n"), "text");
  std::string document;
  EXPECT_TRUE(*source->Next(document));
  EXPECT_FALSE(*source->Next(document));
  EXPECT_EQ(source->num_empty_documents(), 2);
}

TEST(TextSource, JoinsGzipMembersAndLinesAcrossBuffers) {
  const TempFolder folder;
  std::string lines, packed;
  Documents expected;
  for (int i = 0; i < 40; ++i) {
    expected.push_back(std::string(40000 + i * 1000, static_cast<char>('a' + i % 26)));
    lines += "{\"text\": \"" + expected.back() + "\"}\n";
  }
  for (size_t begin = 0; begin < lines.size(); begin += 70001) packed += Gzip(lines.substr(begin, 70001));
  EXPECT_EQ(*ReadAll(folder.Write("plain.jsonl", lines)), expected);
  EXPECT_EQ(*ReadAll(folder.Write("packed.jsonl.gz", packed)), expected);
  EXPECT_EQ(*ReadAll(folder.Write("padded.jsonl.gz", packed + std::string(5000, '\0'))), expected);
}

TEST(TextSource, SaysWhatIsWrongAndWhere) {
  const TempFolder folder;
  const std::string good = "{\"text\": \"x\"}\n";
  const std::string packed = Gzip(std::string(100000, 'x') + "tail");
  std::string corrupt = packed;
  corrupt[corrupt.size() - 6] ^= 1;  // in the checksum
  struct Case {
    std::string name, contents, message;
  };
  const std::vector<Case> cases = {
      {"empty.txt", "", "empty.txt: the file is empty"},
      {"empty.jsonl", "", "empty.jsonl: the file is empty"},
      {"empty.txt.gz", "", "empty.txt.gz: the file is empty"},
      {"packed_empty.txt.gz", Gzip(""), "the file is empty"},
      {"a.jsonl", good + good + "{\"text\": \"x\"\n", "a.jsonl:3: not JSON"},
      {"b.jsonl", "\n" + good + "nonsense\n", "b.jsonl:3: not JSON"},
      {"c.jsonl", good + "{\"body\": \"x\", \"id\": 2}", "c.jsonl:2: no field \"text\"; the object has: body, id"},
      {"d.jsonl", "{}", "d.jsonl:1: no field \"text\"; the object has: nothing"},
      {"e.jsonl", "{\"text\": 7}", "e.jsonl:1: the field \"text\" is a number, not a text"},
      {"f.jsonl", "{\"text\": null}", "the field \"text\" is null"},
      {"g.jsonl", "{\"text\": [\"x\"]}", "the field \"text\" is an array"},
      {"h.jsonl", "{\"text\": {\"text\": \"x\"}}", "the field \"text\" is an object"},
      {"i.jsonl", "[1]", "i.jsonl:1: an array, not a JSON object"},
      {"j.jsonl", "\"x\"", "j.jsonl:1: a text, not a JSON object"},
      {"k.jsonl", "{\"a\": " + std::string(100000, '[') + "\n", "k.jsonl:1: nested deeper than 64"},
      {"l.jsonl", "{\"text\": \"\xFF\"}", "l.jsonl:1: not JSON"},
      {"m.jsonl", "{\"text\": \"x\"} {\"text\": \"y\"}", "m.jsonl:1: not JSON"},
      {"n.jsonl", "{\"text\": 1e999999}", "n.jsonl:1: not JSON"},
      {"o.txt.gz", "no gzip at all", "o.txt.gz: the gzip data is corrupt"},
      {"p.txt.gz", packed.substr(0, packed.size() / 2), "p.txt.gz: the gzip data is cut off"},
      {"q.txt.gz", packed.substr(0, 5), "q.txt.gz: the gzip data is cut off"},
      {"r.txt.gz", corrupt, "r.txt.gz: the gzip data is corrupt"},
      {"s.txt.gz", packed + "garbage", "s.txt.gz: the gzip data is corrupt"},
      {"t.parquet", "PAR1", "t.parquet: .parquet files are not read"},
      {"u.jsonl.zst", "x", "u.jsonl.zst: .zst files are not read"},
  };
  for (const Case& test : cases) {
    const auto documents = ReadAll(folder.Write(test.name, test.contents));
    ASSERT_FALSE(documents.ok()) << test.name;
    EXPECT_NE(documents.status().message().find(test.message), std::string::npos) << documents.status();
  }
  EXPECT_FALSE(ReadAll(folder.Path("")).ok());  // a folder
  const auto missing = ReadAll(folder.Path("missing.txt"));
  EXPECT_NE(missing.status().message().find("missing.txt: No such file"), std::string::npos) << missing.status();
}

TEST(TextSource, NeverCrashesOnPrefixesOfAPackedFile) {
  const TempFolder folder;
  const std::string packed = Gzip("{\"text\": \"one\"}\n") + Gzip("{\"text\": \"two\"}\n");
  int num_complete = 0;
  for (size_t size = 0; size <= packed.size(); ++size) {
    num_complete += ReadAll(folder.Write("prefix.jsonl.gz", packed.substr(0, size))).ok();
  }
  EXPECT_EQ(num_complete, 2);  // after each member
}

}  // namespace
}  // namespace conclave::data
