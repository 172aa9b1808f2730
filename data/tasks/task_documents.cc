// SPDX-License-Identifier: Apache-2.0
#include "data/tasks/task_documents.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"

namespace conclave::data {
namespace {

constexpr int64_t kDocumentsHashed = 256;
constexpr size_t kPieceBytes = size_t{256} << 10;

const char* RoleName(Role role) {
  return role == Role::kSystem ? "system" : role == Role::kUser ? "user" : "assistant";
}

std::string JsonLine(const std::vector<Message>& messages) {
  nlohmann::json list = nlohmann::json::array();
  for (const Message& message : messages)
    list.push_back({{"role", RoleName(message.role)}, {"content", message.content}});
  return nlohmann::json{{"messages", std::move(list)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

class DocumentReader final : public ByteReader {
 public:
  explicit DocumentReader(const TaskDocuments& documents) : documents_(documents) {}

  absl::StatusOr<std::string_view> Next() override {
    piece_.clear();
    for (; next_ < documents_.count() && piece_.size() < kPieceBytes; ++next_) piece_ += JsonLine(documents_.At(next_));
    return piece_;
  }
  int64_t file_bytes_read() const override { return next_; }

 private:
  const TaskDocuments& documents_;
  std::string piece_;
  int64_t next_ = 0;
};

}  // namespace

absl::StatusOr<TaskDocuments> TaskDocuments::Create(const core::SourceConfig& source, const std::string& key,
                                                    std::span<const core::TaskConfig> tasks, const std::string& system,
                                                    uint64_t seed, DocumentUse use) {
  if (source.count <= 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.count: say how many problems of the task become documents, e.g. count: 10000", key));
  }
  const uint64_t own_seed = core::RandomKey(seed, core::RandomPurpose::kTask, static_cast<uint64_t>(use));
  ASSIGN_OR_RETURN(TaskSplit split, TaskSplit::Open(source, key, tasks, own_seed));
  TaskDocuments documents(std::move(split), source, system, own_seed);
  for (const core::TaskConfig& task : tasks) {
    if (task.name != source.task) continue;
    documents.parameters_ += absl::StrFormat(" %s %d %d %s %d %a", task.name, task.digits, task.terms, task.operators,
                                             task.level, task.held_out);
  }
  return documents;
}

TaskDocuments::TaskDocuments(TaskSplit split, const core::SourceConfig& source, const std::string& system,
                             uint64_t seed)
    : split_(std::move(split)),
      name_(source.task + "/" + source.split),
      system_(system),
      parameters_(absl::StrFormat("%s %d %a %d", source.split, source.count, source.worked, seed)),
      count_(source.count),
      worked_key_(core::RandomKey(seed, core::RandomPurpose::kTask, 0)),
      worked_(static_cast<uint64_t>(source.worked * 0x1p32)) {}

std::vector<Message> TaskDocuments::At(int64_t index) const {
  const uint32_t draw = core::Philox(worked_key_, static_cast<uint64_t>(index), 0)[0];
  const AnswerForm form = draw < worked_ ? AnswerForm::kWorked : AnswerForm::kBare;
  TaskDocument document = ToDocument(split_.At(static_cast<uint64_t>(index)), form);
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back({Role::kSystem, system_});
  messages.push_back({Role::kUser, std::move(document.user)});
  messages.push_back({Role::kAssistant, std::move(document.assistant)});
  return messages;
}

std::string TaskDocuments::Fingerprint() const {
  core::Hasher hasher;
  hasher.Update(parameters_.data(), parameters_.size());
  for (int64_t i = 0; i < std::min(count_, kDocumentsHashed); ++i) {
    const std::string line = JsonLine(At(i));
    hasher.Update(line.data(), line.size());
  }
  return hasher.HexDigest();
}

SourceFile TaskDocuments::AsFile() const {
  return {.path = name_, .format = FileFormat::kJsonLines, .bytes = count_, .documents = this};
}

std::unique_ptr<ByteReader> TaskDocuments::NewReader() const { return std::make_unique<DocumentReader>(*this); }

}  // namespace conclave::data
