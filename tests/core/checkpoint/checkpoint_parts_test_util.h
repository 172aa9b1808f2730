// SPDX-License-Identifier: Apache-2.0
// A checkpoint's tensors, dealt out to any number of writers or readers by chance.
#pragma once

#include <array>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/checkpoint/manifest.h"
#include "core/checkpoint/weight_assignment.h"
#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {

// Copies between a whole tensor of 4-byte elements and a box of it.
enum class Direction { kToBox, kToWhole };
inline void CopyBox(const std::vector<int64_t>& shape, const Box& box, Direction direction, std::vector<float>& whole,
                    std::vector<float>& part) {
  std::array<int64_t, 4> at = box.offsets;
  for (int64_t i = 0; i < box.Elements(); ++i) {
    int64_t index = 0;
    for (int dim = 0; dim < box.rank; ++dim) index = index * shape[static_cast<size_t>(dim)] + at[dim];
    float &in_whole = whole[static_cast<size_t>(index)], &in_part = part[static_cast<size_t>(i)];
    direction == Direction::kToBox ? in_part = in_whole : in_whole = in_part;
    for (int dim = box.rank; dim-- > 0;) {
      if (++at[dim] < box.offsets[dim] + box.sizes[dim]) break;
      at[dim] = box.offsets[dim];
    }
  }
}

// The requests of all writers of a checkpoint, with memory of their own.
struct DealtRequests {
  std::deque<std::vector<float>> memory;
  std::vector<SaveRequest> requests;
};

class WholeRun {
 public:
  explicit WholeRun(std::string parent, int64_t step = 7) {
    common.parent = std::move(parent);
    common.meta = {.step = step, .data_position = 321, .seed = 5, .config_yaml = "name: whole\n"};
    common.weights_dtype = DType::kBf16;
    common.keep_f32 = {"model.bias"};
    common.files = {{"config.json", "{}\n"}};
  }

  // State is cut along a random dim at random places, some of them equal, and every box goes to any writer; weights go
  // to the writer that AssignWeights chooses among random holders.
  DealtRequests Deal(int num_parts, unsigned seed) {
    std::mt19937 random(seed);
    DealtRequests dealt;
    dealt.requests.assign(static_cast<size_t>(num_parts), common);
    std::vector<HeldWeight> held;
    for (GlobalTensor& weight : weights) {
      held.push_back({weight.name, static_cast<int64_t>(weight.values.size()) * 2, {}});
      for (int part = 0; part < num_parts; ++part) {
        if (part == num_parts - 1 ? held.back().holders.empty() : random() % 2 == 0) {
          held.back().holders.push_back(part);
        }
      }
    }
    const std::vector<int> writers = AssignWeights(held, num_parts);
    for (size_t i = 0; i < weights.size(); ++i) {
      dealt.requests[static_cast<size_t>(writers[i])].weights.push_back(weights[i].Whole());
    }
    for (GlobalTensor& tensor : state) {
      for (const Box& box : RandomSlabs(tensor.shape, random)) {
        std::vector<float>& memory = dealt.memory.emplace_back(static_cast<size_t>(box.Elements()));
        CopyBox(tensor.shape, box, Direction::kToBox, tensor.values, memory);
        dealt.requests[random() % dealt.requests.size()].optimizer.push_back(
            {tensor.name, tensor.shape, box, DType::kF32, memory.data()});
      }
    }
    return dealt;
  }

  SaveRequest common;  // without tensors
  std::vector<GlobalTensor> weights = {{"model.embed", {9, 8}, 0.125f}, {"model.norm", {5}, 2.0f},
                                       {"model.bias", {3}, 0.001f},     {"model.up", {6, 8}, 100.5f},
                                       {"model.down", {8, 6}, -70.1f},  {"model.experts", {4, 3, 5}, 7.7f}};
  std::vector<GlobalTensor> state = {{"optimizer.master.model.embed", {9, 8}, 0.1f},
                                     {"optimizer.m.model.embed", {9, 8}, 1000.0f},
                                     {"optimizer.v.model.norm", {5}, 0.3f},
                                     {"optimizer.v.model.experts", {4, 3, 5, 2}, -9.0f},
                                     {"optimizer.scale", {}, 3.5f},
                                     {"optimizer.nothing", {0, 4}, 0.0f}};

 private:
  static std::vector<Box> RandomSlabs(const std::vector<int64_t>& shape, std::mt19937& random) {
    if (shape.empty()) return {WholeBox(shape)};
    const size_t dim = random() % shape.size();
    std::vector<int64_t> places = {0, shape[dim]};
    for (size_t cut = random() % 6; cut > 0; --cut) {
      places.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(shape[dim] + 1)));
    }
    std::sort(places.begin(), places.end());
    std::vector<Box> boxes;
    for (size_t i = 0; i + 1 < places.size(); ++i) {
      Box box = WholeBox(shape);
      box.offsets[dim] = places[i];
      box.sizes[dim] = places[i + 1] - places[i];
      // Empty ones of one place would have one name.
      if (box.sizes[dim] > 0 || i + 2 == places.size()) boxes.push_back(box);
    }
    return boxes;
  }
};

// All parts, each on a thread of its own as ranks are in tests, up to the fragments.
inline std::vector<std::string> WriteParts(const std::vector<SaveRequest>& requests, const std::string& folder) {
  std::vector<std::string> fragments(requests.size());
  std::vector<std::jthread> ranks;
  for (size_t i = 0; i < requests.size(); ++i) {
    ranks.emplace_back([&, i] {
      fragments[i] =
          WritePart(requests[i], folder, {.index = static_cast<int>(i), .count = static_cast<int>(requests.size())});
    });
  }
  ranks.clear();
  return fragments;
}

inline absl::StatusOr<std::string> SaveParts(const std::vector<SaveRequest>& requests) {
  const auto folder = PrepareSave(requests[0].parent, requests[0].meta.step);
  if (!folder.ok()) return folder.status();
  return PublishSave(requests[0], *folder, WriteParts(requests, *folder));
}

}  // namespace conclave::core
