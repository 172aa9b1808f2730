// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include "core/base/hash.h"

#include <xxhash.h>

#include "absl/strings/str_format.h"

namespace conclave::core {

struct Hasher::State {
  XXH3_state_t xxh3;
};

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh3); }
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Update(const void* data, size_t bytes) {
  if (bytes > 0) XXH3_128bits_update(&state_->xxh3, data, bytes);
}

std::string Hasher::HexDigest() const {
  const XXH128_hash_t digest = XXH3_128bits_digest(&state_->xxh3);
  return absl::StrFormat("%016x%016x", digest.high64, digest.low64);
}

}  // namespace conclave::core
