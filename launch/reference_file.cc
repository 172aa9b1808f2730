// SPDX-License-Identifier: Apache-2.0
#include "launch/reference_file.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::launch {
namespace {

constexpr int64_t kMaxReferenceTokens = 1 << 24;
constexpr int64_t kNoLabel = -100;

absl::Status Bad(const core::SafetensorsFile& file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", file.path(), what));
}

absl::StatusOr<std::vector<int64_t>> ReadIds(const core::SafetensorsFile& file, const char* name) {
  const core::SafetensorsEntry* entry = file.Find(name);
  if (!entry) return Bad(file, absl::StrFormat("it has no %s", name));
  if (entry->dtype_name != "I64" || entry->shape.size() != 2)
    return Bad(file, absl::StrFormat("%s is not int64 [batch, length]", name));
  const int64_t count = (entry->end - entry->begin) / 8;
  if (count == 0 || count > kMaxReferenceTokens)
    return Bad(file, absl::StrFormat("%s has %d values, not 1 to %d", name, count, kMaxReferenceTokens));
  std::vector<int64_t> ids(static_cast<size_t>(count));
  RETURN_IF_ERROR(file.ReadBytes(*entry, 0, count * 8, ids.data()));
  return ids;
}

absl::StatusOr<core::Batch> ReadBatch(const core::SafetensorsFile& file, int64_t vocab_size) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> ids, ReadIds(file, "input_ids"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> labels, ReadIds(file, "labels"));
  const std::vector<int64_t>& shape = file.Find("input_ids")->shape;
  if (file.Find("labels")->shape != shape) return Bad(file, "input_ids and labels differ in shape");
  core::Batch batch{.rows = shape[0], .length = shape[1]};
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size)
      return Bad(file, absl::StrFormat("input_ids has %d, the vocabulary is %d", ids[i], vocab_size));
    if (labels[i] != kNoLabel && (labels[i] < 0 || labels[i] >= vocab_size)) {
      return Bad(file, absl::StrFormat("labels has %d, which is neither an id nor -100", labels[i]));
    }
    batch.tokens.push_back(static_cast<int32_t>(ids[i]));
    batch.positions.push_back(static_cast<int32_t>(static_cast<int64_t>(i) % batch.length));
    batch.labels.push_back(labels[i] == kNoLabel ? -1 : static_cast<int32_t>(labels[i]));
    batch.num_labels += labels[i] != kNoLabel;
  }
  for (int64_t row = 0; row < batch.rows; ++row) batch.row_ids.push_back(row);
  if (batch.num_labels == 0) return Bad(file, "every label is -100");
  return batch;
}

absl::Status ReadSetting(const core::SafetensorsFile& file, const char* key, double& value) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return absl::OkStatus();
  const std::string& text = found->second;
  const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return absl::OkStatus();
  return Bad(file, absl::StrFormat("its metadata has %s = \"%s\", which is not a number", key, text));
}

}  // namespace

absl::StatusOr<Reference> Reference::Open(const std::string& path, int64_t vocab_size) {
  ASSIGN_OR_RETURN(core::SafetensorsFile file, core::SafetensorsFile::Open(path));
  Reference reference{.file = std::move(file), .batch = {}, .settings = {}};
  ASSIGN_OR_RETURN(reference.batch, ReadBatch(reference.file, vocab_size));
  ReferenceSettings& settings = reference.settings;
  RETURN_IF_ERROR(ReadSetting(reference.file, "lr", settings.lr));
  RETURN_IF_ERROR(ReadSetting(reference.file, "mtp_weight", settings.mtp_weight));
  RETURN_IF_ERROR(ReadSetting(reference.file, "balance_weight", settings.balance_weight));
  RETURN_IF_ERROR(ReadSetting(reference.file, "bias_update", settings.bias_update));
  double steps = 8;
  RETURN_IF_ERROR(ReadSetting(reference.file, "steps", steps));
  for (const char* name : {"train.loss", "train.grad_norm"}) {
    const core::SafetensorsEntry* entry = reference.file.Find(name);
    if (entry && entry->shape.size() == 1) reference.steps = std::max(reference.steps, entry->shape[0]);
  }
  if (reference.steps == 0 && reference.HasPrefix("after."))
    reference.steps = static_cast<int64_t>(std::clamp(steps, 0.0, 1e6));
  return reference;
}

bool Reference::HasPrefix(const std::string& prefix) const {
  return std::any_of(file.entries().begin(), file.entries().end(),
                     [&](const auto& entry) { return entry.name.starts_with(prefix); });
}

core::Config Reference::TrainingConfig(const core::ModelConfig& model, const std::string& precision) const {
  core::Config config;
  config.model = model;
  config.precision = precision;
  config.data.sequence_length = batch.length;
  config.batch.sequences = batch.rows;
  config.optim.lr = settings.lr;
  config.optim.betas = {0.9, 0.95};
  config.optim.eps = 1e-8;
  config.optim.weight_decay = 0.1;
  config.optim.clip = 1;
  config.moe.mtp_weight = settings.mtp_weight;
  // Of the softmax routers' programs none has a balance loss per sequence: references leave it out there.
  config.moe.balance_loss = model.HasRouterBias() ? settings.balance_weight : 0;
  config.moe.bias_update_speed = settings.bias_update;
  config.train.steps = std::max<int64_t>(steps, 1);
  return config;
}

}  // namespace conclave::launch
