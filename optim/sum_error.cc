// SPDX-License-Identifier: Apache-2.0
#include "optim/sum_error.h"

#include <array>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/fixed_sum.h"
#include "core/base/status_macros.h"

namespace conclave::optim {
namespace {

using core::DType;
using core::Param;
using core::Tensor;

// By shape alone, so that all ranks that hold a parameter decide alike.
bool IsCompared(const Param& param) { return param.sum && param.spec.Elements() <= kLargestCompared; }

// Gives the compared parameters sums of integers for as long as it lives.
class BorrowedSums {
 public:
  explicit BorrowedSums(core::Model& model) : model_(model) {}
  ~BorrowedSums() {
    for (auto& [param, sum] : floats_) param->sum = sum;
  }
  BorrowedSums(const BorrowedSums&) = delete;
  BorrowedSums& operator=(const BorrowedSums&) = delete;

  absl::Status Allocate() {
    for (const auto& param : model_.params().params()) {
      if (!IsCompared(*param)) continue;
      const int64_t bytes = param->spec.Elements() * SizeOf(DType::kI64);
      ASSIGN_OR_RETURN(auto buffer, model_.device().Allocate(bytes, "exact sums of the first batch"));
      floats_.push_back({param.get(), param->sum});
      param->sum.data = buffer->data();  // contiguous, as the floats are
      param->sum.dtype = DType::kI64;
      buffers_.push_back(std::move(buffer));
    }
    return absl::OkStatus();
  }

 private:
  core::Model& model_;
  std::vector<std::pair<Param*, Tensor>> floats_;
  std::vector<std::unique_ptr<core::DeviceBuffer>> buffers_;
};

// What ranks add up, as integers.
struct Totals {
  static constexpr int64_t kExact = 0, kFloat = core::kNormLimbs, kDifference = 2 * core::kNormLimbs;  // limbs
  static constexpr int64_t kBad = 3 * core::kNormLimbs, kCompared = kBad + 1, kElements = kBad + 2, kSize = kBad + 3;
  std::array<int64_t, kSize> sums = {};

  void AddOverRanks(core::Stream& stream, parallel::Comm& all) {
    all.Wait(stream, all.AllReduce(stream, Tensor(sums.data(), DType::kI64, {kSize}), parallel::Reduction::kSum));
  }
  double Norm(int64_t limbs) const { return std::sqrt(core::NormLimbsToDouble(sums.data() + limbs)); }
};

// The differences are so much smaller than the gradients that their squares need a smaller unit.
constexpr double kDifferenceScale = 0x1p20;

template <class T>
std::vector<T> ReadShard(core::Model& model, const Param& param) {
  const Tensor shard = param.ShardOf(param.sum);
  CHECK_EQ(SizeOf(shard.dtype), static_cast<int64_t>(sizeof(T)));
  std::vector<T> values(static_cast<size_t>(shard.Elements()));
  if (!values.empty()) model.device().CopyToHost(model.stream(), shard, values.data());
  model.device().Synchronize(model.stream());
  return values;
}

void Compare(const std::vector<float>& floats, const std::vector<int64_t>& exact, Totals& totals) {
  double squares[3] = {};
  for (size_t i = 0; i < exact.size(); ++i) {
    const double x = static_cast<double>(exact[i]) * core::kGradientUnit, y = static_cast<double>(floats[i]);
    const double difference = (x - y) * kDifferenceScale;
    squares[0] += x * x;
    squares[1] += y * y;
    squares[2] += difference * difference;
  }
  if (!(squares[1] < 0x1p70 && squares[2] < 0x1p70)) {
    ++totals.sums[Totals::kBad];
    return;
  }
  core::AddToNormLimbs(squares[0], totals.sums.data() + Totals::kExact);
  core::AddToNormLimbs(squares[1], totals.sums.data() + Totals::kFloat);
  core::AddToNormLimbs(squares[2], totals.sums.data() + Totals::kDifference);
  totals.sums[Totals::kCompared] += static_cast<int64_t>(exact.size());
}

int64_t Flag(core::Model& model) {
  int32_t flag = 0;
  model.device().CopyToHost(model.stream(), model.params().flag(), &flag);
  model.device().Synchronize(model.stream());
  return flag;
}

}  // namespace

absl::StatusOr<SumError> MeasureSumError(Trainer& trainer, core::Model& model, parallel::Comm& all,
                                         const core::Batch& batch) {
  Totals totals;
  std::vector<std::vector<float>> floats;
  trainer.Backward(batch);
  for (const auto& param : model.params().params()) {
    if (param->sum) totals.sums[Totals::kElements] += param->ShardOf(param->sum).Elements();
    if (IsCompared(*param)) floats.push_back(ReadShard<float>(model, *param));
  }
  trainer.ClearGradients();

  Totals failures;
  {
    BorrowedSums borrowed(model);
    const absl::Status allocated = borrowed.Allocate();
    failures.sums[Totals::kBad] = !allocated.ok();
    failures.AddOverRanks(model.stream(), all);
    if (failures.sums[Totals::kBad] > 0) {
      return allocated.ok() ? absl::ResourceExhaustedError("another rank lacks memory for exact sums") : allocated;
    }
    trainer.Backward(batch);
    totals.sums[Totals::kBad] = Flag(model);
    size_t index = 0;
    for (const auto& param : model.params().params()) {
      if (IsCompared(*param)) Compare(floats[index++], ReadShard<int64_t>(model, *param), totals);
    }
  }
  trainer.ClearGradients();
  totals.AddOverRanks(model.stream(), all);
  if (totals.sums[Totals::kBad] > 0) return absl::FailedPreconditionError("the gradient of the batch is not finite");
  return SumError{.exact_norm = totals.Norm(Totals::kExact),
                  .float_norm = totals.Norm(Totals::kFloat),
                  .difference = totals.Norm(Totals::kDifference) / kDifferenceScale,
                  .compared = totals.sums[Totals::kCompared],
                  .elements = totals.sums[Totals::kElements]};
}

std::string SumErrorText(const SumError& error) {
  const double share = error.exact_norm > 0 ? error.difference / error.exact_norm : 0;
  return absl::StrFormat(
      "float sums put the gradient of the first batch %.1e of its norm off: norm %.9g instead of %.9g (compared: %d of "
      "%d parameters)",
      share, error.float_norm, error.exact_norm, error.compared, error.elements);
}

}  // namespace conclave::optim
