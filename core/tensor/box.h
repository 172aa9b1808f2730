// SPDX-License-Identifier: Apache-2.0
// A rectangle of a global tensor: what a rank holds, what a file holds, what a reader wants. Checkpoints and sharding speak
// in boxes only, so that any layout can read any save.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>

namespace conclave::core {

struct Box {
  int rank = 0;
  std::array<int64_t, 4> offsets{};
  std::array<int64_t, 4> sizes{};

  static Box Whole(std::initializer_list<int64_t> shape);
  int64_t Elements() const;
  bool operator==(const Box&) const = default;
};

// The common part, or nothing if it is empty.
std::optional<Box> Intersect(const Box& a, const Box& b);

}  // namespace conclave::core
