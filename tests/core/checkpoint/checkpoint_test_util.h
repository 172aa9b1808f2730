// SPDX-License-Identifier: Apache-2.0
// What the checkpoint tests share: a temporary folder, raw files, and tensors whose every element tells where it
// belongs.
#pragma once

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/checkpoint/checkpoint.h"

#define ASSERT_OK(expression)                    \
  do {                                           \
    const absl::Status asserted_ = (expression); \
    ASSERT_TRUE(asserted_.ok()) << asserted_;    \
  } while (false)

namespace conclave::core {

// A folder that goes with its owner; in memory where there is such a place, since most tests do not need a slow fsync.
class TestFolder {
 public:
  static std::filesystem::path Memory() {
    return std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
  }
  explicit TestFolder(const std::filesystem::path& parent = Memory()) {
    std::string name = (parent / "conclave_test_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Removes the file first: ext4 waits for the disk when a file is truncated and written again.
inline void WriteAll(const std::string& path, std::string_view bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline void FlipBit(const std::string& path, size_t byte, int bit) {
  std::string bytes = ReadAll(path);
  bytes.at(byte) = static_cast<char>(bytes[byte] ^ (1 << bit));
  WriteAll(path, bytes);
}

// A safetensors file as text: length, header, data.
inline std::string RawSafetensors(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes.append(header).append(data);
}

inline std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

inline bool Contains(const absl::Status& status, std::string_view part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

inline Box MakeBox(const std::vector<int64_t>& offsets, const std::vector<int64_t>& sizes) {
  Box box;
  box.rank = static_cast<int>(sizes.size());
  std::copy(offsets.begin(), offsets.end(), box.offsets.begin());
  std::copy(sizes.begin(), sizes.end(), box.sizes.begin());
  return box;
}

// A global f32 tensor, and its boxes as StateTensors with memory of their own.
struct GlobalTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;

  GlobalTensor(std::string tensor_name, std::vector<int64_t> tensor_shape, float first)
      : name(std::move(tensor_name)), shape(std::move(tensor_shape)) {
    values.resize(static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>())));
    std::iota(values.begin(), values.end(), first);
  }
  StateTensor Whole() {
    return {name, shape, MakeBox(std::vector<int64_t>(shape.size()), shape), DType::kF32, values.data()};
  }

  // Calls visit(index in the global tensor, index in the box) for every element of a box, up to two dims.
  template <class Visit>
  void ForEach(const Box& box, Visit visit) const {
    ASSERT_EQ(box.rank, 2);
    for (int64_t i = 0; i < box.sizes[0]; ++i) {
      for (int64_t j = 0; j < box.sizes[1]; ++j) {
        visit(static_cast<size_t>((box.offsets[0] + i) * shape[1] + box.offsets[1] + j),
              static_cast<size_t>(i * box.sizes[1] + j));
      }
    }
  }
  StateTensor Cut(const Box& box, std::vector<float>& memory) const {
    memory.resize(static_cast<size_t>(box.Elements()));
    ForEach(box, [&](size_t global, size_t local) { memory[local] = values[global]; });
    return {name, shape, box, DType::kF32, memory.data()};
  }
};

// A small model's checkpoint: two weights, a bias that stays f32, masters in four boxes, an i64 counter, a scalar.
class SmallRun {
 public:
  explicit SmallRun(std::string parent, int64_t step = 7) {
    request.parent = std::move(parent);
    request.meta = {.step = step,
                    .data_position = 321,
                    .seed = 0xfedcba9876543210u,
                    .config_yaml = "name: small\n",
                    .device = "cpu avx2",
                    .precision = "bf16",
                    .sample_chain = "abc",
                    .program_version = "0.1.0",
                    .history = {"step 0: new", "step 5: resumed"}};
    request.weights = {weight.Whole(), norm.Whole(), bias.Whole()};
    request.weights_dtype = DType::kBf16;
    request.keep_f32 = {"model.bias"};
    request.files = {{"config.json", "{}\n"}, {"tokenizer.json", "{\"a\": 1}\n"}};
    CutMaster({{0, 0}, {0, 5}, {3, 0}, {3, 5}}, {{3, 5}, {3, 2}, {4, 5}, {4, 2}});
  }

  // Replaces the boxes of the master; offsets and sizes of boxes of [7, 7].
  void CutMaster(const std::vector<std::vector<int64_t>>& offsets, const std::vector<std::vector<int64_t>>& sizes) {
    request.optimizer = {{"optimizer.count", {2}, MakeBox({0}, {2}), DType::kI64, counts},
                         {"optimizer.scalar", {}, MakeBox({}, {}), DType::kF32, &scalar},
                         bias_state.Whole()};
    pieces.assign(offsets.size(), {});
    for (size_t i = 0; i < offsets.size(); ++i) {
      request.optimizer.push_back(master.Cut(MakeBox(offsets[i], sizes[i]), pieces[i]));
    }
  }

  GlobalTensor weight{"model.weight", {7, 7}, 0.125f}, norm{"model.norm", {5}, 2}, bias{"model.bias", {3}, 0.001f};
  GlobalTensor master{"optimizer.master.model.weight", {7, 7}, 0.1f}, bias_state{"optimizer.bias", {3}, 0.001f};
  int64_t counts[2] = {-1, int64_t{1} << 62};
  float scalar = 0.3f;
  std::vector<std::vector<float>> pieces;
  SaveRequest request;
};

}  // namespace conclave::core
