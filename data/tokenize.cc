// SPDX-License-Identifier: Apache-2.0
#include "data/tokenize.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

// A chunk takes about three times its bytes in memory until it is written.
int64_t MostBytesInFlight(int threads) {
  return std::clamp(int64_t{2} * (threads + 4), int64_t{16}, int64_t{96}) << 20;
}

struct Job {
  TextChunk chunk;
  int64_t chunk_bytes = 0, file_bytes = 0;
  EncodedChunk result;
  bool done = false;
};

// Jobs in the order of the text, between one reader, several workers and one writer.
class JobQueue {
 public:
  explicit JobQueue(int64_t most_bytes) : most_bytes_(most_bytes) {}

  // False: stop reading. A job larger than the limit goes alone.
  bool Push(std::unique_ptr<Job> job) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || bytes_ == 0 || bytes_ + job->chunk_bytes <= most_bytes_; });
    if (stopped_) return false;
    bytes_ += job->chunk_bytes;
    todo_.push_back(job.get());
    in_order_.push_back(std::move(job));
    work_.notify_one();
    return true;
  }
  void EndOfInput() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    work_.notify_all();
    done_.notify_all();
  }

  // The next job to work on; null at the end. It belongs to the queue.
  Job* NextToDo() {
    std::unique_lock lock(mutex_);
    work_.wait(lock, [&] { return stopped_ || ended_ || !todo_.empty(); });
    if (stopped_ || todo_.empty()) return nullptr;
    Job* job = todo_.front();
    todo_.pop_front();
    return job;
  }
  void Finished(Job& job) {
    const std::lock_guard lock(mutex_);
    job.done = true;
    if (&job == in_order_.front().get()) done_.notify_one();
  }

  // The next job in order once it is done; null at the end. Its bytes count until Release.
  std::unique_ptr<Job> NextInOrder() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return in_order_.empty() ? ended_ : in_order_.front()->done; });
    if (in_order_.empty()) return nullptr;
    std::unique_ptr<Job> job = std::move(in_order_.front());
    in_order_.pop_front();
    return job;
  }
  void Release(std::unique_ptr<Job> job) {
    const int64_t bytes = job->chunk_bytes;
    job.reset();
    const std::lock_guard lock(mutex_);
    bytes_ -= bytes;
    room_.notify_one();
  }
  void Stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    room_.notify_all();
    work_.notify_all();
  }

 private:
  const int64_t most_bytes_;
  std::mutex mutex_;
  std::condition_variable room_, work_, done_;
  std::deque<std::unique_ptr<Job>> in_order_;
  std::deque<Job*> todo_;
  int64_t bytes_ = 0;
  bool ended_ = false, stopped_ = false;
};

// False: stop reading.
bool ReadFile(const SourceFile& file, int64_t bytes_before, JobQueue& queue) {
  absl::StatusOr<TextSource> source = TextSource::Open(file);
  auto push = [&](TextChunk chunk, int64_t file_bytes) {
    auto job = std::make_unique<Job>();
    job->chunk = std::move(chunk);
    job->chunk_bytes = static_cast<int64_t>(job->chunk.text.size()) + 1;
    job->file_bytes = bytes_before + file_bytes;
    return queue.Push(std::move(job));
  };
  if (!source.ok()) {
    return push({.file = &file, .problem = std::string(source.status().message())}, 0);
  }
  TextChunk chunk;
  while (source->Next(chunk)) {
    if (!push(std::move(chunk), source->file_bytes_read())) return false;
  }
  return true;
}

void ReadFiles(std::span<const SourceFile> files, JobQueue& queue) {
  int64_t bytes_before = 0;
  for (const SourceFile& file : files) {
    if (!ReadFile(file, bytes_before, queue)) return;
    bytes_before += file.bytes;
  }
  queue.EndOfInput();
}

void EncodeChunks(const Tokenizer& tokenizer, const RecordFormat& format, JobQueue& queue) {
  DocumentEncoder encoder(tokenizer, format);
  while (Job* job = queue.NextToDo()) {
    job->result = encoder.Encode(std::exchange(job->chunk, {}));
    queue.Finished(*job);
  }
}

}  // namespace

absl::Status TokenizeFiles(std::span<const SourceFile> files, const Tokenizer& tokenizer, const RecordFormat& format,
                           int threads, const ChunkSink& sink) {
  JobQueue queue(MostBytesInFlight(threads));
  std::vector<std::jthread> workers;
  workers.emplace_back([&] { ReadFiles(files, queue); });
  for (int i = 0; i < threads; ++i) workers.emplace_back([&] { EncodeChunks(tokenizer, format, queue); });
  absl::Status status;
  while (status.ok()) {
    std::unique_ptr<Job> job = queue.NextInOrder();
    if (!job) break;
    status = sink(job->result, job->file_bytes);
    queue.Release(std::move(job));
  }
  queue.Stop();  // also after the last job: nothing is left then
  return status;
}

}  // namespace conclave::data
