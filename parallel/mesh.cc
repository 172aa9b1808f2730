// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"

namespace conclave::parallel {
namespace {

constexpr int kMostDrawn = 64;  // ranks
constexpr int kGap = -1;

// The nearest shape that fits, by the sum of the differences; of equal ones that with the smaller pipeline.
MeshShape NearestShape(const MeshShape& wanted, int world_size) {
  MeshShape nearest = {1, world_size, 1};
  const auto distance = [&](const MeshShape& shape) {
    return std::abs(shape.pipeline - wanted.pipeline) + std::abs(shape.expert - wanted.expert);
  };
  for (int pipeline = 1; pipeline <= world_size; ++pipeline) {
    if (world_size % pipeline != 0) continue;
    const int data = world_size / pipeline;
    for (int expert = 1; expert <= data; ++expert) {
      const MeshShape shape = {pipeline, data, expert};
      if (data % expert == 0 && distance(shape) < distance(nearest)) nearest = shape;
    }
  }
  return nearest;
}

std::string Suggestion(const MeshShape& wanted, int world_size) {
  const MeshShape nearest = NearestShape(wanted, world_size);
  std::string text;
  if (nearest.pipeline != wanted.pipeline) absl::StrAppend(&text, "parallel.pipeline=", nearest.pipeline);
  if (nearest.expert != wanted.expert) {
    absl::StrAppend(&text, text.empty() ? "" : " ", "parallel.expert=", nearest.expert);
  }
  if (wanted.data > 0 && nearest.data != wanted.data) {
    absl::StrAppend(&text, text.empty() ? "" : " ", "parallel.data=", nearest.data);
  }
  return text;
}

// 0, 1, ..., n - 1; of many the first and the last, with a gap between.
std::vector<int> Drawn(int n, int most) {
  std::vector<int> indexes;
  for (int i = 0; i < n; ++i) {
    if (n <= most || i < most - 3 || i == n - 1) {
      indexes.push_back(i);
    } else if (indexes.back() != kGap) {
      indexes.push_back(kGap);
    }
  }
  return indexes;
}

}  // namespace

absl::StatusOr<Mesh> Mesh::Create(const MeshShape& shape, int world_size) {
  if (shape.pipeline < 1 || shape.data < 0 || shape.expert < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "parallel.pipeline=%d parallel.data=%d parallel.expert=%d: axes have 1 rank or more (data: 0 for "
        "all that are left)",
        shape.pipeline, shape.data, shape.expert));
  }
  if (shape.data % shape.expert != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("parallel.expert=%d does not divide parallel.data=%d: experts are cut over the data ranks",
                        shape.expert, shape.data));
  }
  MeshShape full = shape;
  if (full.data == 0) full.data = std::max(world_size / shape.pipeline / shape.expert * shape.expert, shape.expert);
  if (int64_t{full.pipeline} * full.data == world_size) return Mesh(full);
  const bool given = shape.data > 0;
  const int64_t multiple = int64_t{shape.pipeline} * (given ? shape.data : shape.expert);
  const std::string axes =
      given ? absl::StrFormat("parallel.pipeline=%d x parallel.data=%d", shape.pipeline, shape.data)
            : absl::StrFormat("parallel.pipeline=%d x parallel.expert=%d", shape.pipeline, shape.expert);
  return absl::InvalidArgumentError(
      absl::StrFormat("%d rank%s not fit %s: that takes %s%d; start so many, or set e.g. %s", world_size,
                      world_size == 1 ? " does" : "s do", axes, given ? "" : "a multiple of ", multiple,
                      Suggestion(shape, world_size)));
}

MeshPlace Mesh::PlaceOf(int rank) const {
  CHECK(rank >= 0 && rank < size());
  const int data = rank % shape_.data;
  return {rank / shape_.data, data, data / shape_.expert, data % shape_.expert};
}

std::string Mesh::PlaceText(int rank) const {
  const MeshPlace place = PlaceOf(rank);
  std::string text;
  if (shape_.pipeline > 1) absl::StrAppend(&text, "pipeline ", place.pipeline);
  if (shape_.data > 1) absl::StrAppend(&text, text.empty() ? "" : ", ", "data ", place.data);
  if (shape_.expert > 1) {
    absl::StrAppend(&text, " (replica ", place.replica, ", expert rank ", place.expert, ")");
  }
  return text;
}

std::string Mesh::ToText() const {
  const bool whole = size() <= kMostDrawn;
  const std::vector<int> rows = Drawn(shape_.pipeline, whole ? kMostDrawn : 6);
  const std::vector<int> columns = Drawn(shape_.data, whole ? kMostDrawn : 12);
  const int width = static_cast<int>(std::max<size_t>(3, absl::StrCat(size() - 1).size()));
  const auto line = [&](std::string_view head, auto cell) {
    std::string text = absl::StrFormat("%-14s", head);
    for (size_t i = 0; i < columns.size(); ++i) {
      const int column = columns[i];
      const bool bar = i > 0 && column % shape_.expert == 0 && column != kGap && shape_.expert > 1;
      absl::StrAppend(&text, bar ? " |" : "", " ",
                      absl::StrFormat("%*s", width, column == kGap ? "..." : absl::StrCat(cell(column))));
    }
    return text + "\n";
  };
  std::string text = line("data", [](int data) { return data; });
  for (int row : rows) {
    text += row == kGap ? std::string("...\n")
                        : line(absl::StrFormat("pipeline %d", row), [&](int data) { return RankAt(row, data); });
  }
  return text;
}

MeshComms SplitByMesh(Comm& world, const Mesh& mesh, int ranks_per_host) {
  CHECK_EQ(world.size(), mesh.size());
  CHECK_GE(ranks_per_host, 1);
  const MeshPlace place = mesh.PlaceOf(world.rank());
  MeshComms comms;
  comms.all = world.Split(0, "mesh");
  comms.pipeline = world.Split(place.data, "pipeline");
  comms.data = world.Split(place.pipeline, "data");
  comms.expert = world.Split(place.pipeline * mesh.replicas() + place.replica, "expert");
  const int expert = mesh.shape().expert;
  if (ranks_per_host > 1 && ranks_per_host < expert && expert % ranks_per_host == 0) {
    comms.expert_inter = comms.expert->Split(place.expert % ranks_per_host, "expert_inter");
    comms.expert_intra = comms.expert->Split(place.expert / ranks_per_host, "expert_intra");
  }
  return comms;
}

}  // namespace conclave::parallel
