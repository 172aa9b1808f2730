// SPDX-License-Identifier: Apache-2.0
#include "core/model/rope_table.h"

#include <algorithm>
#include <cmath>

#include "core/base/exact_math.h"

namespace conclave::core {
namespace {

constexpr double kPi = 3.14159265358979323846;

double YarnMscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * ExactLog(factor) + 1.0; }

// The rotary dim whose wavelength turns `rotations` times within the original length.
double CorrectionDim(const ModelConfig& config, double rotations, int64_t dim) {
  const double length = static_cast<double>(config.rope_scaling.original_max_position_embeddings);
  return static_cast<double>(dim) * ExactLog(length / (rotations * 2 * kPi)) / (2 * ExactLog(config.rope_theta));
}

void ScaleByYarn(const ModelConfig& config, int64_t dim, std::vector<float>& frequencies) {
  const RopeScalingConfig& scaling = config.rope_scaling;
  const double low = std::max(std::floor(CorrectionDim(config, scaling.beta_fast, dim)), 0.0);
  double high = std::min(std::ceil(CorrectionDim(config, scaling.beta_slow, dim)), static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = static_cast<float>(frequencies[i] / scaling.factor * ramp + frequencies[i] * (1 - ramp));
  }
}

void ScaleByLlama3(const ModelConfig& config, std::vector<float>& frequencies) {
  const RopeScalingConfig& scaling = config.rope_scaling;
  const double length = static_cast<double>(scaling.original_max_position_embeddings);
  for (float& frequency : frequencies) {
    const double wavelength = 2 * kPi / frequency;
    if (wavelength < length / scaling.high_freq_factor) continue;
    if (wavelength > length / scaling.low_freq_factor) {
      frequency = static_cast<float>(frequency / scaling.factor);
      continue;
    }
    const double smooth =
        (length / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
    frequency = static_cast<float>((1 - smooth) * frequency / scaling.factor + smooth * frequency);
  }
}

}  // namespace

std::vector<float> MakeRopeTable(const ModelConfig& config, int64_t dim, int64_t positions) {
  const int64_t half = dim / 2;
  std::vector<float> frequencies(half);
  for (int64_t i = 0; i < half; ++i) {
    frequencies[i] =
        static_cast<float>(1.0 / ExactPow(config.rope_theta, 2.0 * static_cast<double>(i) / static_cast<double>(dim)));
  }
  double amplitude = 1;
  const RopeScalingConfig& scaling = config.rope_scaling;
  if (scaling.type == "yarn") {
    ScaleByYarn(config, dim, frequencies);
    amplitude = scaling.mscale != 0 && scaling.mscale_all_dim != 0
                    ? YarnMscale(scaling.factor, scaling.mscale) / YarnMscale(scaling.factor, scaling.mscale_all_dim)
                    : YarnMscale(scaling.factor, 1);
  } else if (scaling.type == "llama3") {
    ScaleByLlama3(config, frequencies);
  }
  std::vector<float> table(positions * dim);
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * frequencies[i];
      table[p * dim + i] = static_cast<float>(ExactCos(angle) * amplitude);
      table[p * dim + half + i] = static_cast<float>(ExactSin(angle) * amplitude);
    }
  }
  return table;
}

double AttentionScale(const ModelConfig& config, int64_t query_width) {
  double scale = 1.0 / std::sqrt(static_cast<double>(query_width));
  const RopeScalingConfig& scaling = config.rope_scaling;
  if (config.HasMla() && scaling.type == "yarn" && scaling.mscale_all_dim != 0) {
    const double mscale = YarnMscale(scaling.factor, scaling.mscale_all_dim);
    scale *= mscale * mscale;
  }
  return scale;
}

}  // namespace conclave::core
