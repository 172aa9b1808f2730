// SPDX-License-Identifier: Apache-2.0
// A model on one device, whole or the stages of one rank: parameters, stages, a stream. What train, eval, generate and
// verify share.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/device/device.h"
#include "core/device/profiling_kernels.h"
#include "core/model/batch.h"
#include "core/model/memory_plan.h"
#include "core/model/param.h"
#include "core/model/stage.h"

namespace conclave::core {

inline DType ComputeDType(Precision precision) { return precision == Precision::kBf16 ? DType::kBf16 : DType::kF32; }
TrainingState TrainingStateOf(const Config& config);

class Model {
 public:
  struct Options {
    Precision precision = Precision::kF32;
    ParamSet::Purpose purpose = ParamSet::Purpose::kInference;
    TrainingState training = {};
    CacheKind cache = CacheKind::kExpanded;     // of decoding; kLatent: with multi-head latent attention
    int64_t max_positions = 0;                  // 0: config.max_position_embeddings
    OperationProfile* profile = nullptr;        // if given, every operation is recorded there; it outlives the model
    std::vector<StagePart> parts = {};          // stages of this rank; empty: one with everything
    ExchangeFactory make_exchange = {};         // empty: all experts are here
    std::function<void(ParamSet&)> shard = {};  // gives each parameter its Shard before memory is allocated
  };
  // Weights are zero until they are initialized or loaded; call Refresh after either.
  static absl::StatusOr<std::unique_ptr<Model>> Create(const ModelConfig& config, Device& device,
                                                       const Options& options);

  void Refresh() { params_.Refresh(*kernels_); }  // masters changed: panels and rounded copies follow

  const ModelConfig& config() const { return stages_[0]->config(); }
  DType dtype() const { return stages_[0]->dtype(); }
  int64_t max_positions() const { return max_positions_; }
  Device& device() { return device_; }
  Stream& stream() { return *stream_; }
  Kernels& kernels() { return *kernels_; }
  ParamSet& params() { return params_; }
  const ParamSet& params() const { return params_; }
  // The one stage of a whole model.
  const Stage& stage() const {
    CHECK_EQ(stages_.size(), 1u);
    return *stages_[0];
  }
  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }

 private:
  explicit Model(Device& device) : device_(device) {}

  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  ParamSet params_;
  std::vector<std::unique_ptr<Stage>> stages_;
  int64_t max_positions_ = 0;
};

// What of PolicyTargets a batch has.
PolicyInputs InputsOf(const Batch& batch);

// Copies what `pass` reads of rows [begin, begin + pass.rows) of the batch (padding beyond its end) to the device;
// tensors from AllocateTokens.
class TokenFeeder {
 public:
  void Fill(Device& device, Stream& stream, const Batch& batch, int64_t begin, StagePass& pass);

 private:
  std::vector<int32_t> row_offsets_;  // host copies on their way to the device, kept from micro-batch to micro-batch
  ShiftedTokens staged_;
};

// A micro-batch's pass with memory behind it, reused for one micro-batch after the other.
class PassRunner {
 public:
  // Memory for every shape of `shapes`.
  static absl::StatusOr<std::unique_ptr<PassRunner>> Create(Model& model, const std::vector<PassShape>& shapes);

  // Begins a micro-batch: rows [begin, begin + shape.rows) of the batch (padding beyond its end).
  void Begin(const Batch& batch, int64_t begin, const PassShape& shape);

  Lane& lane() { return lane_; }
  StagePass& pass() { return pass_; }
  StageSaved& saved() { return saved_; }
  const PassMemory& planned() const { return planned_; }  // of all shapes
  PassMemory measured() const;                            // peaks so far
  // True if the measured peaks are those planned for the shapes that have run.
  bool MeasuredAsPlanned() const { return measured() == planned_so_far_; }

 private:
  explicit PassRunner(Model& model)
      : model_(model), scratch_("scratch"), lane_{model.kernels(), scratch_, model.device(), model.stream()} {}

  Model& model_;
  Arena scratch_;
  Lane lane_;
  StagePass pass_;
  StageSaved saved_;
  PassMemory planned_, planned_so_far_;
  std::vector<std::pair<PassShape, PassMemory>> known_;
  std::unique_ptr<DeviceBuffer> memory_;
  TokenFeeder feeder_;
};

}  // namespace conclave::core
