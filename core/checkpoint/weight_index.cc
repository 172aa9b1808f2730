// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/weight_index.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"

namespace conclave::core {
namespace {

constexpr int64_t kMaxIndexBytes = int64_t{256} << 20;

// Keeps weight_map and skips everything else: real files lack the metadata or carry keys of their own.
class IndexReader final : public JsonEvents {
 public:
  std::map<std::string, std::string> weight_map;
  bool has_weight_map = false;

  bool BeginObject() override {
    if (in_map_) return Refuse("weight_map must map names to file names");
    if (depth_++ == 1 && key_ == "weight_map") in_map_ = has_weight_map = true;
    return true;
  }
  bool EndObject() override {
    in_map_ = false;
    --depth_;
    return true;
  }
  bool Key(std::string& key) override {
    key_ = key;
    return true;
  }
  bool String(std::string& text) override {
    if (!in_map_) return Foreign();
    if (!IsPlainFileName(text)) {
      return Refuse(
          absl::StrCat("tensor ", Quoted(key_), ": ", Quoted(text), " is not a plain name of a file in this folder"));
    }
    weight_map.emplace(key_, text);
    return true;
  }
  bool BeginArray() override {
    ++depth_;
    return Foreign();
  }
  bool EndArray() override {
    --depth_;
    return true;
  }
  bool Null() override { return Foreign(); }
  bool Bool(bool) override { return Foreign(); }
  bool Negative(int64_t) override { return Foreign(); }
  bool Unsigned(uint64_t) override { return Foreign(); }
  bool Float(double, std::string_view) override { return Foreign(); }

 private:
  bool Foreign() { return !in_map_ || Refuse(absl::StrCat("tensor ", Quoted(key_), ": its file name is not text")); }

  bool in_map_ = false;
  int depth_ = 0;
  std::string key_;
};

absl::StatusOr<WeightIndex> OpenSingleFile(const std::string& path) {
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
  WeightIndex index;
  for (const SafetensorsEntry& entry : file.entries()) index.tensors.emplace(entry.name, WeightIndex::Place{0, &entry});
  index.files.push_back(std::move(file));
  return index;
}

absl::StatusOr<WeightIndex> OpenShards(const std::string& dir, const std::string& index_path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index_path, kMaxIndexBytes));
  IndexReader reader;
  RETURN_IF_ERROR(ReadJson(text, {.name = index_path}, {.max_bytes = kMaxIndexBytes}, reader));
  if (!reader.has_weight_map) return absl::InvalidArgumentError(absl::StrCat(index_path, ": weight_map is missing"));
  WeightIndex index;
  std::map<std::string, int32_t> numbers;
  for (const auto& [name, file_name] : reader.weight_map) {
    const auto [number, is_new] = numbers.emplace(file_name, static_cast<int32_t>(index.files.size()));
    if (is_new) {
      auto file = SafetensorsFile::Open(absl::StrCat(dir, "/", file_name));
      if (!file.ok()) {
        return absl::Status(file.status().code(),
                            absl::StrFormat("%s (named in %s for tensor %s)", std::string(file.status().message()),
                                            index_path, Quoted(name)));
      }
      index.files.push_back(*std::move(file));
    }
    const SafetensorsFile& file = index.files[static_cast<size_t>(number->second)];
    const SafetensorsEntry* entry = file.Find(name);
    if (entry == nullptr) {
      return absl::NotFoundError(
          absl::StrFormat("tensor %s is not in %s, where %s says it is", Quoted(name), file.path(), index_path));
    }
    index.tensors.emplace(name, WeightIndex::Place{number->second, entry});
  }
  return index;
}

}  // namespace

absl::StatusOr<WeightIndex> OpenWeights(const std::string& dir) {
  const std::string single = absl::StrCat(dir, "/", kSingleWeightsFile),
                    index = absl::StrCat(dir, "/", kWeightsIndexFile);
  if (FileExists(single)) return OpenSingleFile(single);
  if (FileExists(index)) return OpenShards(dir, index);
  return absl::NotFoundError(
      absl::StrFormat("%s is no model folder: it has neither %s nor %s", dir, kSingleWeightsFile, kWeightsIndexFile));
}

std::string WeightIndexJson(const std::map<std::string, std::string>& weight_map, int64_t total_bytes) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return absl::StrCat(index.dump(2), "\n");
}

}  // namespace conclave::core
