// SPDX-License-Identifier: Apache-2.0
// Finds the tokenizer that a name means.
#include "data/tokenizer.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/tiktoken_file.h"
#include "data/tokenizer_companions.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_json_writer.h"

namespace conclave::data {
namespace {

namespace fs = std::filesystem;

constexpr char kVocabularyFile[] = "tokenizer.json";
constexpr int64_t kMaxVocabularyBytes = int64_t{256} << 20;

// The file of a folder that holds the vocabulary.
absl::StatusOr<std::string> FindVocabulary(const std::string& folder) {
  std::error_code error;
  for (const char* name : {kVocabularyFile, "tokenizer.model"}) {
    if (fs::is_regular_file(fs::path(folder) / name, error)) return (fs::path(folder) / name).string();
  }
  std::string found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (!found.empty()) return absl::InvalidArgumentError(folder + ": it has several .tiktoken files; name one");
    found = entry.path().string();
  }
  if (!found.empty()) return found;
  return absl::NotFoundError(folder + ": no tokenizer.json and no .tiktoken file in it");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadBpe(const std::string& path, std::string contents) {
  const std::string folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  TokenizerJson file;
  if (IsTiktoken(contents)) {
    ASSIGN_OR_RETURN(file.description, ParseTiktoken(contents, path));
    ASSIGN_OR_RETURN(contents, WriteTokenizerJson(file.description));
  } else {
    ASSIGN_OR_RETURN(file, ParseTokenizerJson(contents, path));
  }
  ASSIGN_OR_RETURN(BpeTokenizer::Surroundings surroundings,
                   ReadCompanions(folder, file.template_tokens, file.description));
  surroundings.files[kVocabularyFile] = std::move(contents);
  auto tokenizer = BpeTokenizer::Create(std::move(file.description), std::move(surroundings));
  if (!tokenizer.ok()) {
    return absl::Status(tokenizer.status().code(),
                        absl::StrFormat("%s: %s", path, std::string(tokenizer.status().message())));
  }
  return std::move(tokenizer).value();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& name) {
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  std::error_code ignored;
  absl::StatusOr<std::string> path = fs::is_directory(name, ignored) ? FindVocabulary(name) : name;
  absl::StatusOr<std::string> contents = path.ok() ? core::ReadTextFile(*path, kMaxVocabularyBytes) : path.status();
  if (!contents.ok()) {
    return absl::Status(contents.status().code(),
                        absl::StrFormat("tokenizer: %s (expected \"bytes\", a tokenizer.json, a tiktoken file, or a "
                                        "folder that has one)",
                                        std::string(contents.status().message())));
  }
  if (ByteTokenizer::Describes(*contents)) return std::make_unique<ByteTokenizer>();
  return LoadBpe(*path, *std::move(contents));
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!tokenizer.IsSpecial(id)) text += tokenizer.TokenText(id);
  }
  return text;
}

}  // namespace conclave::data
