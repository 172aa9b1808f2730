// SPDX-License-Identifier: Apache-2.0
#include "launch/rollout_key.h"

#include "core/base/hash.h"
#include "core/config/yaml.h"

namespace conclave::launch {

std::string RolloutKey(const core::Config& config, const RunParts& parts) {
  core::Config copy = config;
  copy.parallel = {};
  copy.batch = {};
  copy.run = {};
  copy.train = {.seed = config.train.seed, .init_std = config.train.init_std};
  copy.checkpoint = {};
  copy.eval = {};
  copy.data.cache.clear();
  const std::string text = core::WriteConfig(copy) + parts.data_fingerprint;
  core::Hasher hasher;
  hasher.Update(text.data(), text.size());
  return hasher.HexDigest();
}

}  // namespace conclave::launch
