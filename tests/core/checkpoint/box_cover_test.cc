// SPDX-License-Identifier: Apache-2.0
// Whether boxes tile a tensor: compared with counting every element.
#include "core/checkpoint/box_cover.h"

#include <random>

#include <gtest/gtest.h>

#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

StoredBox Stored(const std::vector<int64_t>& shape, const Box& box, std::string file = "f") {
  return {.name = "t", .dtype = DType::kF32, .shape = shape, .box = box, .file = std::move(file), .key = "t"};
}

// Halves boxes at random places until there are `count`.
std::vector<Box> RandomTiling(const std::vector<int64_t>& shape, size_t count, std::mt19937& random) {
  std::vector<Box> boxes = {WholeBox(shape)};
  while (boxes.size() < count) {
    Box& box = boxes[random() % boxes.size()];
    const size_t dim = random() % shape.size();
    Box rest = box;
    const int64_t size = static_cast<int64_t>(random() % static_cast<uint64_t>(box.sizes[dim] + 1));
    rest.offsets[dim] += size;
    rest.sizes[dim] -= size;
    box.sizes[dim] = size;
    boxes.push_back(rest);
  }
  std::shuffle(boxes.begin(), boxes.end(), random);
  return boxes;
}

bool CoversOnce(const std::vector<int64_t>& shape, const std::vector<Box>& boxes) {
  std::vector<int64_t> padded = shape;
  padded.resize(4, 1);
  for (int64_t i = 0; i < padded[0] * padded[1] * padded[2] * padded[3]; ++i) {
    const int64_t at[] = {i / (padded[3] * padded[2] * padded[1]), i / (padded[3] * padded[2]) % padded[1],
                          i / padded[3] % padded[2], i % padded[3]};
    int count = 0;
    for (const Box& box : boxes) {
      bool inside = true;
      for (int dim = 0; dim < box.rank; ++dim) {
        inside = inside && at[dim] >= box.offsets[dim] && at[dim] < box.offsets[dim] + box.sizes[dim];
      }
      count += inside ? 1 : 0;
    }
    if (count != 1) return false;
  }
  return true;
}

TEST(BoxCover, AgreesWithCountingEveryElement) {
  std::mt19937 random(1);
  int covered = 0, refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<int64_t> shape(1 + random() % 4);
    for (int64_t& size : shape) size = 1 + static_cast<int64_t>(random() % 5);
    std::vector<Box> boxes = RandomTiling(shape, 1 + random() % 12, random);
    Box& changed = boxes[random() % boxes.size()];
    const size_t dim = random() % shape.size();
    switch (random() % 4) {
      case 0:
        changed.sizes[dim] = std::max<int64_t>(changed.sizes[dim] - 1, 0);
        break;
      case 1:
        changed.offsets[dim] = std::min(changed.offsets[dim] + 1, shape[dim] - changed.sizes[dim]);
        break;
      case 2:
        boxes.push_back(changed);
        break;
      default:
        break;
    }
    std::vector<StoredBox> stored;
    for (const Box& box : boxes) stored.push_back(Stored(shape, box));
    const absl::Status status = CheckExactCover(stored);
    ASSERT_EQ(status.ok(), CoversOnce(shape, boxes)) << trial << ": " << status;
    ++(status.ok() ? covered : refused);
  }
  EXPECT_GT(covered, 500);
  EXPECT_GT(refused, 300);
}

TEST(BoxCover, NamesTensorRectangleAndFiles) {
  const std::vector<int64_t> shape = {7, 4};
  const absl::Status twice = CheckExactCover(
      std::vector{Stored(shape, MakeBox({0, 0}, {5, 4}), "first"), Stored(shape, MakeBox({3, 1}, {4, 3}), "second")});
  for (const char* part : {"'t'", "[3:5, 1:4]", "first", "second"}) EXPECT_TRUE(Contains(twice, part)) << twice;
  const absl::Status gap =
      CheckExactCover(std::vector{Stored(shape, MakeBox({0, 0}, {5, 4})), Stored(shape, MakeBox({5, 0}, {2, 3}))});
  for (const char* part : {"'t'", "F32 [7, 4]", "[5:7, 3:4]"}) EXPECT_TRUE(Contains(gap, part)) << gap;
  const absl::Status shapes = CheckExactCover(
      std::vector{Stored(shape, MakeBox({0, 0}, {5, 4}), "first"), Stored({7}, MakeBox({5}, {2}), "second")});
  for (const char* part : {"F32 [7, 4] in first", "F32 [7] in second"}) EXPECT_TRUE(Contains(shapes, part)) << shapes;
}

TEST(BoxCover, TakesAScalarOnceAndAnEmptyTensorAnyNumberOfTimes) {
  const StoredBox scalar = Stored({}, MakeBox({}, {})), empty = Stored({0, 3}, MakeBox({0, 0}, {0, 3}));
  EXPECT_TRUE(CheckExactCover(std::vector{scalar}).ok());
  EXPECT_TRUE(Contains(CheckExactCover(std::vector{scalar, scalar}), "twice"));
  EXPECT_TRUE(CheckExactCover(std::vector{empty, empty}).ok());
}

}  // namespace
}  // namespace conclave::core
