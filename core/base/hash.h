// SPDX-License-Identifier: Apache-2.0
// A fast 128-bit checksum of bytes (XXH3-128), fed in pieces: finds damage and compares states; not a defence against
// forgery.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace conclave::core {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  // The digest depends on the bytes alone, not on how they are cut into calls.
  void Update(const void* data, size_t bytes);

  // Of all bytes so far: 32 hex digits, as `xxhsum -H2` prints them. More may follow.
  std::string HexDigest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace conclave::core
