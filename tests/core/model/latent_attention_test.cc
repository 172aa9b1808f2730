// SPDX-License-Identifier: Apache-2.0
// Attention over cached latents: what it computes is what the formula gives in double precision, as closely as with
// keys and values expanded; and what it saves.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/model/attention.h"
#include "core/model/model.h"
#include "core/model/rope_table.h"

namespace conclave::core {
namespace {

constexpr int64_t kTokens = 150;  // more than one block of keys

ModelConfig Config(int64_t q_lora) {
  ModelConfig config;
  config.model_type = "deepseek_v3";
  config.vocab_size = 320;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 3;
  config.q_lora_rank = q_lora;
  config.kv_lora_rank = 20;
  config.qk_nope_head_dim = 12;
  config.qk_rope_head_dim = 8;
  config.v_head_dim = 10;
  config.max_position_embeddings = kTokens;
  return config;
}

using Doubles = std::vector<double>;

// The layer in double precision, from its weights.
class Reference {
 public:
  Reference(const ModelConfig& config, const ParamSet& params, const std::vector<float>& rope)
      : config_(config), params_(params), rope_(rope) {}

  // x [tokens, D] -> attention's output [tokens, D].
  Doubles Run(const Doubles& x) const {
    const int64_t heads = config_.num_attention_heads, n = config_.qk_nope_head_dim, r = config_.qk_rope_head_dim;
    const int64_t v = config_.v_head_dim, latent = config_.kv_lora_rank;
    const Doubles down = Times("kv_a_proj_with_mqa.weight", x, config_.hidden_size, latent + r);
    Doubles latents, rotary,
        q = config_.q_lora_rank == 0 ? Times("q_proj.weight", x, config_.hidden_size, heads * (n + r)) : Queries(x);
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto row = down.begin() + t * (latent + r);
      latents.insert(latents.end(), row, row + latent);
      rotary.insert(rotary.end(), row + latent, row + latent + r);
      Rotate(t, rotary.data() + t * r);
      for (int64_t h = 0; h < heads; ++h) Rotate(t, q.data() + (t * heads + h) * (n + r) + n);
    }
    Normalize(latents, latent);
    const Doubles kv = Times("kv_b_proj.weight", latents, latent, heads * (n + v));
    Doubles out(kTokens * heads * v);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const double* query = q.data() + (t * heads + h) * (n + r);
        Doubles weights;
        for (int64_t key = 0; key <= t; ++key) {
          const double own = std::inner_product(query, query + n, kv.data() + (key * heads + h) * (n + v), 0.0);
          const double shared = std::inner_product(query + n, query + n + r, rotary.data() + key * r, 0.0);
          weights.push_back(std::exp((own + shared) * AttentionScale(config_, n + r)));
        }
        const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
        for (int64_t key = 0; key <= t; ++key) {
          const double* value = kv.data() + (key * heads + h) * (n + v) + n;
          for (int64_t i = 0; i < v; ++i) out[(t * heads + h) * v + i] += weights[key] / total * value[i];
        }
      }
    }
    return Times("o_proj.weight", out, heads * v, config_.hidden_size);
  }

 private:
  Doubles Queries(const Doubles& x) const {
    Doubles latents = Times("q_a_proj.weight", x, config_.hidden_size, config_.q_lora_rank);
    Normalize(latents, config_.q_lora_rank);
    return Times("q_b_proj.weight", latents, config_.q_lora_rank,
                 config_.num_attention_heads * (config_.qk_nope_head_dim + config_.qk_rope_head_dim));
  }
  Doubles Times(const std::string& name, const Doubles& x, int64_t in, int64_t out) const {
    const ParamPart* part = nullptr;
    const Param* param = params_.FindByHfName(name, &part);
    const float* weight = param->master.As<float>() + part->offset;
    Doubles y;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t i = 0; i < out; ++i) {
        y.push_back(std::inner_product(weight + i * in, weight + (i + 1) * in, x.data() + t * in, 0.0));
      }
    }
    return y;
  }
  static void Normalize(Doubles& x, int64_t width) {
    for (int64_t t = 0; t < kTokens; ++t) {
      double* row = x.data() + t * width;
      const double squares = std::inner_product(row, row + width, row, 0.0);
      for (int64_t i = 0; i < width; ++i) row[i] /= std::sqrt(squares / static_cast<double>(width) + 1e-6);
    }
  }
  void Rotate(int64_t position, double* x) const {
    const int64_t half = config_.qk_rope_head_dim / 2;
    for (int64_t i = 0; i < half; ++i) {
      const double cos = rope_[position * 2 * half + i], sin = rope_[position * 2 * half + half + i];
      double &a = x[config_.rope_interleave ? 2 * i : i], &b = x[config_.rope_interleave ? 2 * i + 1 : half + i];
      const double rotated = a * cos - b * sin;
      b = a * sin + b * cos;
      a = rotated;
    }
  }

  const ModelConfig& config_;
  const ParamSet& params_;
  const std::vector<float>& rope_;
};

// One layer that reads kTokens tokens of one sequence into its cache.
class Layer {
 public:
  Layer(const ModelConfig& config, CacheKind cache)
      : config_(config), rope_(MakeRopeTable(config, config.qk_rope_head_dim, kTokens)) {
    device_ = CreateDevice({.name = "cpu", .num_threads = 2}).value();
    stream_ = device_->CreateStream();
    kernels_ = device_->CreateKernels(*stream_);
    rope_table_ = Tensor(rope_.data(), DType::kF32, {kTokens, config.qk_rope_head_dim});
    layer_ = MakeMlaAttention(config_, params_, "attention", "", DType::kF32, rope_table_, cache);
    const absl::Status allocated =
        params_.Allocate(*device_, *kernels_, DType::kF32, ParamSet::Purpose::kInference, {});
    EXPECT_TRUE(allocated.ok()) << allocated;
    params_.Initialize(*kernels_, 5, 0.4);
    params_.Refresh(*kernels_);
  }

  std::vector<float> Run(std::vector<float> x) {
    std::vector<int32_t> positions(kTokens);
    std::iota(positions.begin(), positions.end(), 0);
    const Tensor places(positions.data(), DType::kI32, {1, kTokens});
    const DeviceTokens tokens{.tokens = {}, .positions = places, .labels = {}};
    Arena scratch("scratch"), cache_memory("cache");
    auto memory = device_->Allocate(int64_t{3} << 22, "test").value();
    StagePass pass;
    pass.rows = 1;
    pass.length = kTokens;
    pass.key_index = places;
    char* at = static_cast<char*>(memory->data());
    for (Arena* arena : {&scratch, &cache_memory, &pass.until_block_end}) {
      arena->Attach(at, int64_t{1} << 22);
      at += int64_t{1} << 22;
    }
    Lane lane{*kernels_, scratch, *device_, *stream_};
    const AttentionCache cache = layer_->AllocateCache(cache_memory, 1, kTokens);
    AttentionSaved saved;
    saved.normed = Tensor(x.data(), DType::kF32, {kTokens, config_.hidden_size});
    std::vector<float> y(x.size());
    layer_->Forward(lane, pass, tokens, {}, &cache, saved,
                    Tensor(y.data(), DType::kF32, {kTokens, config_.hidden_size}));
    return y;
  }

  Doubles InDoubles(const std::vector<float>& x) const {
    return Reference(config_, params_, rope_).Run(Doubles(x.begin(), x.end()));
  }

 private:
  const ModelConfig config_;
  std::vector<float> rope_;
  Tensor rope_table_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  ParamSet params_;
  std::unique_ptr<AttentionLayer> layer_;
};

// Of the largest magnitude.
double Difference(const std::vector<float>& y, const Doubles& expected) {
  double largest = 0, magnitude = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    largest = std::max(largest, std::abs(y[i] - expected[i]));
    magnitude = std::max(magnitude, std::abs(expected[i]));
  }
  return largest / magnitude;
}

TEST(LatentAttention, IsAsNearToDoublesAsExpandedAttention) {
  for (const int64_t q_lora : {0, 24}) {
    SCOPED_TRACE(q_lora);
    const ModelConfig config = Config(q_lora);
    Layer expanded(config, CacheKind::kExpanded), latent(config, CacheKind::kLatent);
    std::vector<float> x;
    for (int64_t i = 0; i < kTokens * config.hidden_size; ++i) x.push_back(static_cast<float>(std::sin(0.7 * i * i)));
    const Doubles expected = expanded.InDoubles(x);
    const std::vector<float> y = latent.Run(x);
    EXPECT_LT(Difference(expanded.Run(x), expected), 2e-6);
    EXPECT_LT(Difference(y, expected), 4e-6);  // sums over latents are longer and have larger terms
    EXPECT_NE(y, expanded.Run(x)) << "the cache is not one of latents";
  }
}

TEST(LatentAttention, OfDeepSeekV3Keeps57TimesLess) {
  ModelConfig v3 = Config(1536);
  v3.num_attention_heads = 128;
  v3.kv_lora_rank = 512;
  v3.qk_nope_head_dim = v3.v_head_dim = 128;
  v3.qk_rope_head_dim = 64;
  EXPECT_EQ(CacheWidth(v3, CacheKind::kLatent), 576);
  EXPECT_EQ(CacheWidth(v3, CacheKind::kExpanded), 57 * 576);
}

TEST(LatentAttention, CachesAreAsLargeAsTheirWidthSays) {
  const ModelConfig config = Config(24);
  for (const CacheKind kind : {CacheKind::kExpanded, CacheKind::kLatent}) {
    ParamSet params;
    const Stage stage(config, params, DType::kF32, StagePart::Whole(config), {}, kind);
    Arena arena("caches");
    int64_t values = 0;
    for (const AttentionCache& cache : stage.AllocateCaches(arena, 5, 7)) {
      values += cache.keys_values.Elements() + cache.shared_key.Elements();
    }
    EXPECT_EQ(values, 3 * 5 * 7 * CacheWidth(config, kind));
  }
}

}  // namespace
}  // namespace conclave::core
