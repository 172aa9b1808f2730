// SPDX-License-Identifier: Apache-2.0
// Parameters: what they are (ParamSpec) and their values on this rank (Param). Matrices that are multiplied by the same
// input are one parameter, stacked along the output dim; each part keeps its Hugging Face name, so files never see the
// fusion.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"
#include "core/device/kernels.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor.h"

namespace conclave::core {

// A Hugging Face tensor that lies in one piece inside a parameter.
struct ParamPart {
  std::string hf_name;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // elements from the parameter's start
  int64_t Elements() const;
};

enum class ParamKind {
  kMatrix,      // [N, K] or [E, N, K]; packed for GEMMs; weight decay
  kEmbedding,   // [V, D]; read by row, packed too if it serves as the head; weight decay
  kVector,      // gains and biases; no decay
  kRouterBias,  // [E] f32; no gradient, moved by UpdateRouterBias
};

enum class ParamInit { kNormal, kOnes, kZeros };

// Heads of a matrix [H (keys + values), K] that are packed one by one, too: attention over latents multiplies by each
// half alone (mla_attention.cc).
struct HeadRows {
  int64_t heads = 0;  // 0: not packed by head
  int64_t keys = 0, values = 0;
};

struct ParamSpec {
  std::string name;                 // "layers.3.experts.gate_up"
  std::vector<int64_t> shape = {};  // rank 1 to 3
  ParamKind kind = ParamKind::kMatrix;
  ParamInit init = ParamInit::kNormal;
  DType product_dtype = DType::kF32;  // of its GEMMs; router gates stay f32
  std::vector<ParamPart> parts = {};
  int num_uses = 1;      // per row and step: 1, more for shared embeddings and heads
  bool as_head = false;  // an embedding that is packed, too
  bool expert = false;   // of experts: on fewer ranks than the rest of its block
  HeadRows head_rows = {};
  int64_t Elements() const;
};

// Which rows of a parameter this rank updates and saves, where several ranks hold copies (ZeRO stage 1: moments and
// averages exist only for these). A parameter is seen as [rows, cols]: cols is its last dim, 1 for a vector.
struct Shard {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

struct Param {
  ParamSpec spec;
  int64_t layer = -1;         // of its block; -1: of none
  bool cut_gradient = false;  // its sum is kept for the shard alone (ZeRO stage 2): matrices of blocks only
  bool cut_master = false;    // its master is kept for the shard alone, panels are packed as it is gathered: the same
  Shard shard;                // all rows, unless the layout says otherwise
  Tensor master;              // f32; if it is cut, [shard rows, cols]
  Tensor value;               // f32, rounded to the compute dtype (vectors only; the master itself in f32)
  Tensor sum;                 // i64 or f32, the gradient; if it is cut, of one micro-batch, in memory that layers share
  Tensor shard_sum;           // [shard rows, cols] of its dtype, if it is cut: the gradient so far
  Tensor m, v;                // f32 or bf16 [shard rows, cols] moments
  Tensor ema;                 // f32 [shard rows, cols], optional
  PackedWeight forward, backward;  // shapes from the start, panels once allocated
  // By head, with head_rows: x [keys] -> [K] over the rows of keys, x [K] -> [values] over those of values.
  PackedWeight key_heads, value_heads;

  int64_t rows() const { return spec.Elements() / cols(); }
  int64_t cols() const { return spec.shape.size() > 1 ? spec.shape.back() : 1; }
  // master, sum as [rows, cols], and of those the rows of the shard.
  Tensor AsRows(const Tensor& whole) const { return whole.Reshape({rows(), cols()}); }
  Tensor ShardOf(const Tensor& whole) const { return AsRows(whole).Slice(0, shard.begin, shard.size()); }
  Tensor ShardMaster() const { return cut_master ? master : ShardOf(master); }
  // The rows of the gradient that this rank reduces and applies.
  Tensor ShardGradient() const { return cut_gradient ? shard_sum : ShardOf(sum); }
};

// What training keeps beside the weights.
struct TrainingState {
  DType gradients = DType::kI64;  // i64: exact sums; f32: half the memory, and bits depend on the layout
  DType moments = DType::kF32;    // f32 or bf16
  bool ema = false;
};

// Fills the panels of a parameter from its whole master.
void PackPanels(Kernels& kernels, const Param& param, Tensor master);

// All parameters of a model, in order of declaration, and their memory: one block per purpose.
class ParamSet {
 public:
  enum class Purpose { kTraining, kInference };

  // A name that is declared again is the same parameter: stages of one rank share the embedding.
  Param* Declare(ParamSpec spec);
  const std::vector<std::unique_ptr<Param>>& params() const { return params_; }
  // Those declared from the `first` on belong to a layer.
  void SetLayer(size_t first, int64_t layer) {
    for (size_t i = first; i < params_.size(); ++i) params_[i]->layer = layer;
  }
  Param* FindByHfName(std::string_view hf_name, const ParamPart** part) const;  // nullptr if absent

  int64_t Elements() const;  // without router biases

  // Allocates all tensors; what `training` says only for training.
  absl::Status Allocate(Device& device, Kernels& kernels, DType compute_dtype, Purpose purpose,
                        const TrainingState& training);
  // Writes gradient targets; rows = rows of the largest global batch.
  GradientTarget Target(const Param& param, int64_t rows) const;
  Tensor flag() const { return flag_; }  // i32 [1], set by a contribution out of range

  // Normal numbers keyed by (seed, Hugging Face name, index): independent of fusion and layout.
  void Initialize(Kernels& kernels, uint64_t seed, double std);
  // Memory for one whole master that is cut elsewhere.
  Tensor WholeMaster(const Param& param) const;
  // After masters changed: rounded copies and panels, but for masters that are cut (parallel/grad_sync.h).
  void Refresh(Kernels& kernels);

  struct MemoryRow {
    const char* name;
    int64_t bytes;
  };
  const std::vector<MemoryRow>& memory() const { return memory_; }

 private:
  std::vector<std::unique_ptr<Param>> params_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::vector<MemoryRow> memory_;
  Tensor flag_;
  Tensor rounded_;  // bf16 scratch of the largest vector
  Tensor whole_;    // f32 scratch of the largest master that is cut
};

}  // namespace conclave::core
