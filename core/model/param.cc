// SPDX-License-Identifier: Apache-2.0
#include "core/model/param.h"

#include <algorithm>

#include "core/base/fixed_sum.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"

namespace conclave::core {
namespace {

int64_t Product(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

int64_t Aligned(int64_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

Tensor WithShape(void* memory, DType dtype, const std::vector<int64_t>& shape) {
  switch (shape.size()) {
    case 1:
      return Tensor(memory, dtype, {shape[0]});
    case 2:
      return Tensor(memory, dtype, {shape[0], shape[1]});
    default:
      CHECK_EQ(shape.size(), 3);
      return Tensor(memory, dtype, {shape[0], shape[1], shape[2]});
  }
}

bool Packed(const ParamSpec& spec) {
  return spec.kind == ParamKind::kMatrix || (spec.kind == ParamKind::kEmbedding && spec.as_head);
}

uint64_t NameHash(std::string_view name) {  // FNV-1a: names to random streams
  uint64_t hash = 14695981039346656037u;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// Hands out consecutive pieces of one buffer.
class Cutter {
 public:
  Tensor Take(DType dtype, const std::vector<int64_t>& shape) {
    Tensor tensor = WithShape(base_ ? base_ + used_ : nullptr, dtype, shape);
    used_ += Aligned(tensor.Bytes());
    return tensor;
  }
  void Begin(void* base) {
    base_ = static_cast<char*>(base);
    used_ = 0;
  }
  int64_t used() const { return used_; }
  void MoveTo(int64_t used) { used_ = used; }

 private:
  char* base_ = nullptr;
  int64_t used_ = 0;
};

// Gradients of a rank. Cut ones share two areas, which layers take in turn: one is reduced while the next one fills.
void CutGradients(const std::vector<std::unique_ptr<Param>>& params, DType dtype, Cutter& cutter) {
  std::vector<int64_t> layers;
  for (const auto& param : params) {
    if (param->spec.kind == ParamKind::kRouterBias) continue;
    if (!param->cut_gradient) {
      param->sum = cutter.Take(dtype, param->spec.shape);
      continue;
    }
    param->shard_sum = cutter.Take(dtype, {param->shard.size(), param->cols()});
    if (std::find(layers.begin(), layers.end(), param->layer) == layers.end()) layers.push_back(param->layer);
  }
  for (size_t area = 0; area < 2; ++area) {
    const int64_t begin = cutter.used();
    int64_t end = begin;
    for (size_t i = area; i < layers.size(); i += 2) {
      cutter.MoveTo(begin);
      for (const auto& param : params) {
        if (param->cut_gradient && param->layer == layers[i]) param->sum = cutter.Take(dtype, param->spec.shape);
      }
      end = std::max(end, cutter.used());
    }
    cutter.MoveTo(end);
  }
}

}  // namespace

void PackPanels(Kernels& kernels, const Param& param, Tensor master) {
  kernels.PackWeight(master, param.forward, param.backward);
  const HeadRows& rows = param.spec.head_rows;
  if (rows.heads == 0) return;
  const Tensor heads = master.SplitFirst(rows.keys + rows.values);  // [H, keys + values, K]
  kernels.PackWeight(heads.Slice(1, 0, rows.keys), {}, param.key_heads);
  kernels.PackWeight(heads.Slice(1, rows.keys, rows.values), param.value_heads, {});
}

int64_t ParamPart::Elements() const { return Product(shape); }
int64_t ParamSpec::Elements() const { return Product(shape); }

Param* ParamSet::Declare(ParamSpec spec) {
  for (const auto& param : params_) {
    if (param->spec.name != spec.name) continue;
    CHECK(param->spec.shape == spec.shape);
    return param.get();
  }
  int64_t covered = 0;
  for (const ParamPart& part : spec.parts) covered += part.Elements();
  CHECK_EQ(covered, spec.Elements());
  params_.push_back(std::make_unique<Param>());
  Param* param = params_.back().get();
  param->spec = std::move(spec);
  param->shard = {0, param->rows()};
  if (Packed(param->spec)) {
    const std::vector<int64_t>& shape = param->spec.shape;
    const int64_t matrices = shape.size() == 3 ? shape[0] : 1, n = shape[shape.size() - 2], k = shape.back();
    param->forward = {.panels = {}, .dtype = param->spec.product_dtype, .matrices = matrices, .out = n, .in = k};
    param->backward = {.panels = {}, .dtype = param->spec.product_dtype, .matrices = matrices, .out = k, .in = n};
    const HeadRows& rows = param->spec.head_rows;
    const DType dtype = param->spec.product_dtype;
    param->key_heads = {.panels = {}, .dtype = dtype, .matrices = rows.heads, .out = k, .in = rows.keys};
    param->value_heads = {.panels = {}, .dtype = dtype, .matrices = rows.heads, .out = rows.values, .in = k};
  }
  return param;
}

Param* ParamSet::FindByHfName(std::string_view hf_name, const ParamPart** part) const {
  for (const auto& param : params_) {
    for (const ParamPart& candidate : param->spec.parts) {
      if (candidate.hf_name == hf_name) {
        *part = &candidate;
        return param.get();
      }
    }
  }
  return nullptr;
}

int64_t ParamSet::Elements() const {
  int64_t n = 0;
  for (const auto& param : params_) n += param->spec.kind == ParamKind::kRouterBias ? 0 : param->spec.Elements();
  return n;
}

absl::Status ParamSet::Allocate(Device& device, Kernels& kernels, DType compute_dtype, Purpose purpose,
                                const TrainingState& training) {
  // Each block is cut twice: once without memory to learn its size, once for real.
  auto block = [&](const char* name, auto&& cut) -> absl::Status {
    Cutter cutter;
    cut(cutter);
    if (cutter.used() == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(auto buffer, device.Allocate(cutter.used(), name));
    cutter.Begin(buffer->data());
    cut(cutter);
    memory_.push_back({name, buffer->bytes()});
    buffers_.push_back(std::move(buffer));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(block("weights (f32 masters)", [&](Cutter& cutter) {
    for (auto& param : params_) {
      param->master = param->cut_master ? cutter.Take(DType::kF32, {param->shard.size(), param->cols()})
                                        : cutter.Take(DType::kF32, param->spec.shape);
    }
  }));
  RETURN_IF_ERROR(block("weights (packed for GEMMs)", [&](Cutter& cutter) {
    int64_t longest = 1, largest = 0;
    for (auto& param : params_) {
      const ParamSpec& spec = param->spec;
      if (param->cut_master) largest = std::max(largest, spec.Elements());
      if (spec.kind == ParamKind::kVector || spec.kind == ParamKind::kRouterBias) {
        longest = std::max(longest, spec.Elements());
        const bool rounds = compute_dtype != DType::kF32 && spec.kind == ParamKind::kVector;
        param->value = rounds ? cutter.Take(DType::kF32, spec.shape) : param->master;
      }
      if (!Packed(spec)) continue;
      for (PackedWeight* packed : {&param->forward, &param->backward, &param->key_heads, &param->value_heads}) {
        if (packed->matrices == 0 || (packed == &param->backward && purpose == Purpose::kInference)) continue;
        const int64_t bytes = kernels.PackedBytes(packed->dtype, packed->matrices, packed->out, packed->in);
        packed->panels = cutter.Take(DType::kU8, {bytes});
      }
    }
    rounded_ = cutter.Take(DType::kBf16, {longest});
    flag_ = cutter.Take(DType::kI32, {1});
    whole_ = cutter.Take(DType::kF32, {largest});
  }));
  if (purpose == Purpose::kInference) return absl::OkStatus();
  const bool exact = training.gradients == DType::kI64;
  RETURN_IF_ERROR(block(exact ? "gradients (64-bit sums)" : "gradients (f32 sums)",
                        [&](Cutter& cutter) { CutGradients(params_, training.gradients, cutter); }));
  return block("optimizer (moments, EMA)", [&](Cutter& cutter) {
    for (auto& param : params_) {
      if (param->spec.kind != ParamKind::kRouterBias) {
        param->m = cutter.Take(training.moments, {param->shard.size(), param->cols()});
        param->v = cutter.Take(training.moments, {param->shard.size(), param->cols()});
      }
      if (training.ema) param->ema = cutter.Take(DType::kF32, {param->shard.size(), param->cols()});
    }
  });
}

GradientTarget ParamSet::Target(const Param& param, int64_t rows) const {
  const double range = param.sum.dtype == DType::kI64 ? kContributionRange : kFloatRange;
  const double uses = static_cast<double>(rows) * param.spec.num_uses;
  return {.sum = param.sum, .flag = flag_, .limit = static_cast<float>(range / uses)};
}

void ParamSet::Initialize(Kernels& kernels, uint64_t seed, double std) {
  for (auto& param : params_) {
    const Tensor whole = param->cut_master ? WholeMaster(*param) : param->master;
    for (const ParamPart& part : param->spec.parts) {
      float* out = whole.As<float>() + part.offset;
      const uint64_t key = RandomKey(seed, RandomPurpose::kInit, NameHash(part.hf_name));
      switch (param->spec.init) {
        case ParamInit::kNormal:
          kernels.FillNormal(Tensor(out, DType::kF32, {part.Elements()}), key, static_cast<float>(std));
          break;
        case ParamInit::kOnes:
          std::fill_n(out, part.Elements(), 1.0f);
          break;
        case ParamInit::kZeros:
          std::fill_n(out, part.Elements(), 0.0f);
          break;
      }
    }
    if (param->cut_master && param->shard.size() > 0) kernels.Cast(param->ShardOf(whole), param->master);
  }
}

Tensor ParamSet::WholeMaster(const Param& param) const { return WithShape(whole_.data, DType::kF32, param.spec.shape); }

void ParamSet::Refresh(Kernels& kernels) {
  for (auto& param : params_) {
    if (param->cut_master) continue;
    if (param->value.data != param->master.data && param->value) {
      const Tensor rounded = rounded_.Slice(0, 0, param->spec.Elements());
      kernels.Cast(param->master, rounded);
      kernels.Cast(rounded, param->value);
    }
    if (Packed(param->spec)) PackPanels(kernels, *param, param->master);
  }
}

}  // namespace conclave::core
