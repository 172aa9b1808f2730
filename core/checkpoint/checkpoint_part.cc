// SPDX-License-Identifier: Apache-2.0
// One writer's part of a save: its tensors in safetensors files under names of the part's own, each file durable before
// the next. How many files all parts make together is nobody's business before the save is published.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/manifest.h"

namespace conclave::core {
namespace {

struct Item {
  SafetensorsWriteEntry entry;
  StoredBox stored;  // file: when it is written
  int64_t bytes = 0;
};
using Shard = std::vector<Item>;

Item MakeItem(const StateTensor& tensor, DType stored, const std::string& key) {
  Item item;
  item.entry = {.name = key,
                .shape = {tensor.box.sizes.begin(), tensor.box.sizes.begin() + tensor.box.rank},
                .data = tensor.data,
                .source = tensor.dtype,
                .stored = stored};
  item.stored = {
      .name = tensor.name, .dtype = stored, .shape = tensor.shape, .box = tensor.box, .file = {}, .key = key};
  item.bytes = tensor.box.Elements() * SizeOf(stored);
  return item;
}

std::vector<Item> WeightItems(const SaveRequest& request) {
  std::vector<Item> items;
  for (const StateTensor& tensor : request.weights) {
    CHECK(tensor.box == WholeBox(tensor.shape));
    const auto kept = std::find(request.keep_f32.begin(), request.keep_f32.end(), tensor.name);
    items.push_back(
        MakeItem(tensor, kept == request.keep_f32.end() ? request.weights_dtype : tensor.dtype, tensor.name));
  }
  return items;
}

std::vector<Item> StateItems(const SaveRequest& request) {
  std::vector<Item> items;
  for (const StateTensor& tensor : request.optimizer) {
    const bool whole = tensor.box == WholeBox(tensor.shape);
    items.push_back(
        MakeItem(tensor, tensor.dtype, whole ? tensor.name : absl::StrCat(tensor.name, " ", BoxText(tensor.box))));
  }
  return items;
}

// Cuts items, by ascending key, into shards of at most `max_bytes`; a larger tensor has a shard of its own.
std::vector<Shard> CutIntoShards(std::vector<Item> items, int64_t max_bytes) {
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.entry.name < b.entry.name; });
  std::vector<Shard> shards;
  int64_t bytes = 0;
  for (Item& item : items) {
    if (shards.empty() || bytes + item.bytes > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += item.bytes;
    shards.back().push_back(std::move(item));
  }
  return shards;
}

int64_t TotalBytes(const std::vector<Item>& items) {
  int64_t bytes = 0;
  for (const Item& item : items) bytes += item.bytes;
  return bytes;
}

// Writes the shards and enters files and boxes into the manifest.
absl::Status WriteShards(const std::vector<Shard>& shards, const std::string& folder, std::string_view stem, Part part,
                         std::vector<StoredBox>& boxes, std::vector<WrittenFile>& files) {
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = PartFileName(stem, part.index, i);
    std::vector<SafetensorsWriteEntry> entries;
    for (const Item& item : shards[i]) {
      entries.push_back(item.entry);
      boxes.push_back(item.stored);
      boxes.back().file = name;
    }
    ASSIGN_OR_RETURN(const WrittenFile written, WriteSafetensors(absl::StrCat(folder, "/", name), entries, {}));
    files.push_back({.name = name, .bytes = written.bytes, .checksum = written.checksum});
  }
  return absl::OkStatus();
}

}  // namespace

std::string WritePart(const SaveRequest& request, const std::string& folder, Part part) {
  CHECK(part.index >= 0 && part.index < part.count);
  std::vector<Item> weights = WeightItems(request), state = StateItems(request);
  Fragment fragment = {
      .part = part, .tensor_bytes = TotalBytes(weights) + TotalBytes(state), .status = {}, .written = {}};
  Manifest& written = fragment.written;
  fragment.status = WriteShards(CutIntoShards(std::move(weights), request.max_file_bytes), folder, kWeightsStem, part,
                                written.weights, written.files);
  if (fragment.status.ok()) {
    fragment.status = WriteShards(CutIntoShards(std::move(state), request.max_file_bytes), folder, kStateStem, part,
                                  written.state, written.files);
  }
  if (!fragment.status.ok()) written = {};
  written.meta.step = request.meta.step;
  return SerializeFragment(fragment);
}

}  // namespace conclave::core
