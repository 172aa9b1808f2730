// SPDX-License-Identifier: Apache-2.0
#include "core/base/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace conclave::core {
namespace {

std::string DigestOf(const std::string& bytes) {
  Hasher hasher;
  hasher.Update(bytes.data(), bytes.size());
  return hasher.HexDigest();
}

TEST(Hasher, MatchesKnownDigests) {  // XXH3-128 of "" and "abc" with seed 0
  EXPECT_EQ(DigestOf(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(DigestOf("abc"), "06b05ab6733a618578af5f94892f3950");
}

TEST(Hasher, DoesNotDependOnHowBytesAreCut) {
  std::string bytes(5000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 131 >> 3);
  const std::string want = DigestOf(bytes);
  for (size_t piece : {1, 7, 240, 1024, 4999}) {
    Hasher hasher;
    for (size_t begin = 0; begin < bytes.size(); begin += piece) {
      hasher.Update(bytes.data() + begin, std::min(piece, bytes.size() - begin));
      hasher.Update(nullptr, 0);
    }
    EXPECT_EQ(hasher.HexDigest(), want) << "pieces of " << piece;
  }
}

TEST(Hasher, GoesOnAfterADigest) {
  Hasher hasher;
  hasher.Update("ab", 2);
  EXPECT_EQ(hasher.HexDigest(), DigestOf("ab"));
  Hasher moved = std::move(hasher);
  moved.Update("c", 1);
  EXPECT_EQ(moved.HexDigest(), DigestOf("abc"));
}

TEST(Hasher, SeesEveryBit) {
  std::string bytes(300, 'x');
  const std::string original = DigestOf(bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= 1;
    EXPECT_NE(DigestOf(bytes), original) << "byte " << i;
    bytes[i] ^= 1;
  }
}

}  // namespace
}  // namespace conclave::core
