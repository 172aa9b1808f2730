// SPDX-License-Identifier: Apache-2.0
#include "data/text_hash.h"

#include <charconv>
#include <string>

#include "core/base/hash.h"

namespace conclave::data {

uint64_t TextHash(std::string_view text) {
  core::Hasher hasher;
  hasher.Update(text.data(), text.size());
  const std::string digest = hasher.HexDigest();
  uint64_t hash = 0;
  std::from_chars(digest.data(), digest.data() + 16, hash, 16);
  return hash;
}

}  // namespace conclave::data
