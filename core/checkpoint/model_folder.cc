// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/model_folder.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/weight_index.h"

namespace conclave::core {
namespace {

constexpr std::string_view kScaleSuffix = "_scale_inv";
constexpr int64_t kScaleBlock = 128;  // rows and columns that share a scale

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

std::string ScaleName(std::string_view name) { return std::string(name).append(kScaleSuffix); }

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

absl::Status CheckFinite(const SafetensorsFile& file, const SafetensorsEntry& entry, const float* values,
                         int64_t count) {
  const float* bad = std::find_if(values, values + count, [](float value) { return !std::isfinite(value); });
  if (bad == values + count) return absl::OkStatus();
  std::vector<int64_t> index(entry.shape.size());
  int64_t rest = bad - values;
  for (size_t dim = index.size(); dim-- > 0; rest /= entry.shape[dim]) index[dim] = rest % entry.shape[dim];
  return absl::DataLossError(absl::StrFormat("%s: tensor %s has the value %g at index %s", file.path(),
                                             Quoted(entry.name), *bad, ShapeText(index)));
}

}  // namespace

struct ModelFolder::State {
  std::string dir;
  WeightIndex index;

  // The scales of a block-FP8 tensor, or nullptr if it is none.
  const WeightIndex::Place* ScalesOf(std::string_view name) const {
    const auto weight = index.tensors.find(name);
    if (weight == index.tensors.end() || weight->second.entry->dtype != DType::kF8E4M3) return nullptr;
    const auto scales = index.tensors.find(ScaleName(name));
    return scales == index.tensors.end() ? nullptr : &scales->second;
  }

  bool IsCompanion(std::string_view name) const {
    return name.ends_with(kScaleSuffix) && ScalesOf(name.substr(0, name.size() - kScaleSuffix.size())) != nullptr;
  }

  absl::StatusOr<WeightIndex::Place> Find(std::string_view name) const {
    const auto found = index.tensors.find(name);
    if (found != index.tensors.end() && !IsCompanion(name)) return found->second;
    return absl::NotFoundError(absl::StrFormat("model folder %s has no tensor %s", dir, Quoted(name)));
  }

  // values[r, c] *= scales[r / 128, c / 128]
  absl::Status ApplyScales(const WeightIndex::Place& weight, float* values) const;
};

absl::Status ModelFolder::State::ApplyScales(const WeightIndex::Place& weight, float* values) const {
  const SafetensorsEntry& entry = *weight.entry;
  const std::string& path = index.files[static_cast<size_t>(weight.file)].path();
  const WeightIndex::Place* place = ScalesOf(entry.name);
  if (place == nullptr) {
    return absl::NotFoundError(absl::StrFormat("%s: FP8 tensor %s has no companion %s", path, Quoted(entry.name),
                                               Quoted(ScaleName(entry.name))));
  }
  if (entry.shape.size() != 2) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: FP8 tensor %s has shape %s, but block scales need two dims",
                                                      path, Quoted(entry.name), ShapeText(entry.shape)));
  }
  const int64_t rows = entry.shape[0], columns = entry.shape[1], column_blocks = CeilDiv(columns, kScaleBlock);
  const std::vector<int64_t> blocks = {CeilDiv(rows, kScaleBlock), column_blocks};
  const SafetensorsFile& file = index.files[static_cast<size_t>(place->file)];
  const SafetensorsEntry& scale_entry = *place->entry;
  if (scale_entry.shape != blocks || (scale_entry.dtype != DType::kF32 && scale_entry.dtype != DType::kBf16)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor %s is %s %s; the 128 x 128 blocks of a %s weight need F32 or BF16 %s", file.path(),
                        Quoted(scale_entry.name), scale_entry.dtype_name, ShapeText(scale_entry.shape),
                        ShapeText(entry.shape), ShapeText(blocks)));
  }
  std::vector<float> scales(static_cast<size_t>(blocks[0] * blocks[1]));
  RETURN_IF_ERROR(file.ReadFloats(scale_entry, 0, blocks[0] * blocks[1], scales.data()));
  RETURN_IF_ERROR(CheckFinite(file, scale_entry, scales.data(), blocks[0] * blocks[1]));
  for (int64_t row = 0; row < rows; ++row) {
    const float* row_scales = scales.data() + row / kScaleBlock * column_blocks;
    for (int64_t column = 0; column < columns; ++column)
      values[row * columns + column] *= row_scales[column / kScaleBlock];
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelFolder> ModelFolder::Open(const std::string& dir) {
  ASSIGN_OR_RETURN(WeightIndex index, OpenWeights(dir));
  ModelFolder folder;
  folder.state_ = std::make_shared<State>(State{dir, std::move(index)});
  return folder;
}

const std::string& ModelFolder::dir() const { return state_->dir; }

std::vector<std::string> ModelFolder::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : state_->index.tensors) {
    if (!state_->IsCompanion(name)) names.push_back(name);
  }
  return names;
}

bool ModelFolder::Has(std::string_view name) const { return state_->Find(name).ok(); }

absl::StatusOr<std::vector<int64_t>> ModelFolder::Shape(std::string_view name) const {
  ASSIGN_OR_RETURN(const WeightIndex::Place place, state_->Find(name));
  return place.entry->shape;
}

absl::StatusOr<std::string> ModelFolder::StoredType(std::string_view name) const {
  ASSIGN_OR_RETURN(const WeightIndex::Place place, state_->Find(name));
  return place.entry->dtype_name;
}

absl::Status ModelFolder::Read(std::string_view name, const std::vector<int64_t>& shape, float* out) const {
  ASSIGN_OR_RETURN(const WeightIndex::Place place, state_->Find(name));
  const SafetensorsFile& file = state_->index.files[static_cast<size_t>(place.file)];
  const SafetensorsEntry& entry = *place.entry;
  if (entry.shape != shape) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: tensor %s has shape %s, the model needs %s", file.path(),
                                                      Quoted(name), ShapeText(entry.shape), ShapeText(shape)));
  }
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  RETURN_IF_ERROR(file.ReadFloats(entry, 0, count, out));
  if (entry.dtype == DType::kF8E4M3) RETURN_IF_ERROR(state_->ApplyScales(place, out));
  return CheckFinite(file, entry, out, count);
}

}  // namespace conclave::core
