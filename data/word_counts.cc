// SPDX-License-Identifier: Apache-2.0
// Texts travel in batches of about 1 MiB. A thread counts a batch on its own and then adds it to tables that all share,
// each with a lock, so that memory is that of the distinct words, once.
#include "data/word_counts.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/added_tokens.h"
#include "data/json_line.h"
#include "data/source_files.h"
#include "data/text_source.h"
#include "data/unicode.h"

namespace conclave::data {
namespace {

constexpr size_t kBatchBytes = 1 << 20;
constexpr size_t kMaxWaitingBatches = 16;

using Batch = std::vector<std::string>;

// Counts of all threads.
class WordTable {
 public:
  explicit WordTable(int64_t max_distinct_bytes) : max_distinct_bytes_(max_distinct_bytes) {}

  void Add(std::string_view word, int64_t count) {
    Shard& shard = shards_[absl::Hash<std::string_view>()(word) % shards_.size()];
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.counts.find(absl::string_view(word.data(), word.size()));
    if (found != shard.counts.end()) {
      found->second += count;
    } else {
      shard.counts.emplace(word, count);
      distinct_bytes_ += static_cast<int64_t>(word.size());
    }
  }

  bool IsFull() const { return distinct_bytes_ > max_distinct_bytes_; }

  std::vector<WordCount> Sorted() {
    std::vector<WordCount> words;
    for (Shard& shard : shards_) {
      for (const auto& [word, count] : shard.counts) words.push_back({word, count});
      shard.counts = {};
    }
    std::sort(words.begin(), words.end(), [](const WordCount& a, const WordCount& b) { return a.word < b.word; });
    return words;
  }

 private:
  struct Shard {
    std::mutex mutex;
    absl::flat_hash_map<std::string, int64_t> counts;
  };
  const int64_t max_distinct_bytes_;
  std::array<Shard, 64> shards_;
  std::atomic<int64_t> distinct_bytes_ = 0;
};

class BatchQueue {
 public:
  void Push(Batch batch) {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [&] { return batches_.size() < kMaxWaitingBatches; });
    batches_.push_back(std::move(batch));
    has_batch_.notify_one();
  }

  // False at the end.
  bool Pop(Batch& batch) {
    std::unique_lock lock(mutex_);
    has_batch_.wait(lock, [&] { return !batches_.empty() || closed_; });
    if (batches_.empty()) return false;
    batch = std::move(batches_.front());
    batches_.pop_front();
    has_room_.notify_one();
    return true;
  }

  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    has_batch_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable has_batch_, has_room_;
  std::deque<Batch> batches_;
  bool closed_ = false;
};

// One thread's work.
class BatchCounter {
 public:
  BatchCounter(const WordRules& rules, const AddedTokenMatcher& special_tokens, WordTable& table)
      : splitter_(rules), special_tokens_(special_tokens), table_(table) {}

  // Returns the number of words.
  int64_t Count(const Batch& batch) {
    int64_t num_words = 0;
    counts_.clear();
    for (const std::string& text : batch) num_words += CountText(text);
    for (const auto& [word, count] : counts_) table_.Add(word, count);
    return num_words;
  }

 private:
  int64_t CountText(std::string_view text) {
    int64_t num_words = 0;
    while (!text.empty()) {
      const size_t valid = ValidUtf8Length(text);
      pieces_.clear();
      words_.clear();
      special_tokens_.Split(text.substr(0, valid), Parse::kSpecial, pieces_);
      for (const AddedTokenMatcher::Piece& piece : pieces_) {
        if (piece.id < 0) splitter_.Split(piece.text, words_);
      }
      for (const std::string_view word : words_) ++counts_[word];
      num_words += static_cast<int64_t>(words_.size());
      text.remove_prefix(valid);
      if (!text.empty()) text.remove_prefix(core::ClassifyFront(text).length);
    }
    return num_words;
  }

  WordSplitter splitter_;
  const AddedTokenMatcher& special_tokens_;
  WordTable& table_;
  absl::flat_hash_map<std::string_view, int64_t> counts_;
  std::vector<AddedTokenMatcher::Piece> pieces_;
  std::vector<std::string_view> words_;
};

// Reads files and hands out batches.
class BatchMaker {
 public:
  BatchMaker(BatchQueue& queue, const WordTable& table, CountedWords& counted)
      : queue_(queue), table_(table), counted_(counted) {}

  absl::Status ReadAll(std::span<const std::string> paths, const std::string& field) {
    for (const std::string& path : paths) {
      ASSIGN_OR_RETURN(const std::vector<SourceFile> files, ListSourceFiles(path));
      for (const SourceFile& file : files) RETURN_IF_ERROR(ReadFile(file, field));
    }
    queue_.Push(std::move(batch_));
    return absl::OkStatus();
  }

 private:
  absl::Status ReadFile(const SourceFile& file, const std::string& field) {
    if (file.format == FileFormat::kTokens) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: holds token ids, not text", file.path));
    }
    ASSIGN_OR_RETURN(TextSource source, TextSource::Open(file));
    TextChunk chunk;
    while (!table_.IsFull() && source.Next(chunk)) {
      if (!chunk.problem.empty()) return absl::InvalidArgumentError(chunk.problem);
      if (file.format == FileFormat::kJsonLines) {
        RETURN_IF_ERROR(AddLines(chunk, field));
      } else {
        counted_.num_documents += chunk.begins_document;
        Add(std::move(chunk.text));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddLines(const TextChunk& chunk, const std::string& field) {
    LineCursor lines(chunk);
    while (lines.Next()) {
      RETURN_IF_ERROR(ParseJsonLine(lines.line(), lines.source(), field, document_));
      ++counted_.num_documents;
      for (Message& message : document_.messages) Add(std::move(message.content));
      if (!document_.is_chat) Add(std::move(document_.text));
    }
    return absl::OkStatus();
  }

  void Add(std::string text) {
    counted_.num_bytes += static_cast<int64_t>(text.size());
    batch_bytes_ += text.size();
    batch_.push_back(std::move(text));
    if (batch_bytes_ < kBatchBytes) return;
    queue_.Push(std::exchange(batch_, {}));
    batch_bytes_ = 0;
  }

  BatchQueue& queue_;
  const WordTable& table_;
  CountedWords& counted_;
  Batch batch_;
  size_t batch_bytes_ = 0;
  JsonDocument document_;
};

AddedTokenMatcher MakeMatcher(const std::vector<std::string>& contents) {
  std::vector<AddedToken> tokens;
  for (size_t i = 0; i < contents.size(); ++i) {
    tokens.push_back({.content = contents[i], .id = static_cast<int32_t>(i), .special = true});
  }
  return AddedTokenMatcher(std::move(tokens));
}

}  // namespace

absl::StatusOr<CountedWords> CountWords(std::span<const std::string> paths, const WordRules& rules,
                                        const WordCountOptions& options) {
  CountedWords counted;
  const AddedTokenMatcher special_tokens = MakeMatcher(options.special_tokens);
  WordTable table(options.max_distinct_bytes);
  BatchQueue queue;
  std::atomic<int64_t> num_words = 0;
  std::vector<std::jthread> threads;
  const int num_threads = options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  for (int i = 0; i < num_threads; ++i) {
    threads.emplace_back([&] {
      BatchCounter counter(rules, special_tokens, table);
      for (Batch batch; queue.Pop(batch);) {
        if (!table.IsFull()) num_words += counter.Count(batch);
      }
    });
  }
  const absl::Status read = BatchMaker(queue, table, counted).ReadAll(paths, options.field);
  queue.Close();
  threads.clear();  // waits for them
  RETURN_IF_ERROR(read);
  if (table.IsFull()) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the distinct words have more than %d MiB; train on fewer files, or check that they are text "
                        "with blanks between words",
                        options.max_distinct_bytes >> 20));
  }
  counted.num_words = num_words;
  counted.words = table.Sorted();
  return counted;
}

}  // namespace conclave::data
