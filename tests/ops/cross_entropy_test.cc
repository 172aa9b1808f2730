// SPDX-License-Identifier: Apache-2.0
// Laws of the head's loss beyond those of every operation: how the vocabulary or the batch is cut changes no bit,
// tokens without a label do not exist, and a sampled token has the log-probability that the loss gives it.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/device_arrays.h"
#include "tests/support/devices.h"

namespace conclave::core::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Devices& AllDevices() {
  static Devices devices;
  return devices;
}

struct Head {
  Head(DeviceArrays& arrays, DType dtype, int64_t vocabulary, int64_t hidden)
      : weights(arrays.Normal(DType::kF32, {vocabulary, hidden}, 11)),
        forward{.panels = {}, .dtype = dtype, .out = vocabulary, .in = hidden},
        backward{.panels = {}, .dtype = dtype, .out = hidden, .in = vocabulary} {
    Kernels& k = arrays.kernels();
    forward.panels = arrays.Zeros(DType::kU8, {k.PackedBytes(dtype, 1, vocabulary, hidden)});
    backward.panels = arrays.Zeros(DType::kU8, {k.PackedBytes(dtype, 1, hidden, vocabulary)});
    k.PackWeight(weights, forward, backward);
  }
  Tensor weights;
  PackedWeight forward, backward;
};

// Loss and gradients of some rows; the gradient of the head adds to `target`.
struct Loss {
  Loss(DeviceArrays& arrays, const Head& head, Tensor x, Tensor labels, int64_t rows, const GradientTarget& target,
       float temperature = 1) {
    const int64_t tokens = x.size(0), hidden = x.size(1);
    args = {.x = x,
            .head = head.forward,
            .labels = labels,
            .rows = rows,
            .z_loss = 0.01f,
            .temperature = temperature,
            .loss = arrays.Zeros(DType::kF64, {rows}),
            .z_sum = arrays.Zeros(DType::kF64, {rows}),
            .log_probs = arrays.Zeros(DType::kF32, {tokens}),
            .scale = 0.125f,
            .head_backward = head.backward,
            .dx = arrays.Of(x.dtype, {tokens, hidden}, {kNan}),
            .target = target,
            .workspace = arrays.Zeros(
                DType::kU8, {arrays.kernels().CrossEntropyWorkspace(tokens, rows, hidden, head.forward.out, x.dtype)})};
    arrays.kernels().LinearCrossEntropy(args);
  }
  CrossEntropyArgs args;
};

class CrossEntropy : public testing::TestWithParam<std::pair<std::string, DType>> {
 protected:
  void SetUp() override {
    const auto& targets = AllDevices().targets();
    if (std::find(targets.begin(), targets.end(), GetParam().first) == targets.end()) {
      GTEST_SKIP() << "this machine has no " << GetParam().first;
    }
    arrays_ = std::make_unique<DeviceArrays>(AllDevices().Get(GetParam().first, 2));
  }
  DType dtype() const { return GetParam().second; }
  GradientTarget Target(int64_t vocabulary, int64_t hidden, float limit = 4096) {
    return {.sum = arrays_->Zeros(DType::kI64, {vocabulary, hidden}),
            .flag = arrays_->Zeros(DType::kI32, {1}),
            .limit = limit};
  }
  void ExpectEqualBits(const Tensor& a, const Tensor& b) { EXPECT_TRUE(arrays_->Bytes(a) == arrays_->Bytes(b)); }

  std::unique_ptr<DeviceArrays> arrays_;
};

std::vector<double> SomeLabels(int64_t tokens, int64_t vocabulary) {
  std::vector<double> labels;
  for (int64_t t = 0; t < tokens; ++t) labels.push_back(t % 4 == 1 ? -1 : static_cast<double>(t * 37 % vocabulary));
  return labels;
}

TEST_P(CrossEntropy, GivesTheSameLossWithAndWithoutGradients) {
  const int64_t vocabulary = 1000, hidden = 24, tokens = 40;
  const Head head(*arrays_, dtype(), vocabulary, hidden);
  const Tensor x = arrays_->Normal(dtype(), {tokens, hidden}, 1);
  const Tensor labels = arrays_->Of(DType::kI32, {tokens}, SomeLabels(tokens, vocabulary));
  const Loss training(*arrays_, head, x, labels, 2, Target(vocabulary, hidden));
  const CrossEntropyArgs forward = {.x = x,
                                    .head = head.forward,
                                    .labels = labels,
                                    .rows = 2,
                                    .loss = arrays_->Zeros(DType::kF64, {2}),
                                    .z_sum = {},
                                    .log_probs = arrays_->Zeros(DType::kF32, {tokens}),
                                    .head_backward = {},
                                    .dx = {},
                                    .target = {},
                                    .workspace = {}};
  arrays_->kernels().LinearCrossEntropy(forward);
  ExpectEqualBits(forward.loss, training.args.loss);
  ExpectEqualBits(forward.log_probs, training.args.log_probs);
}

// 1024 tokens by 16640 entries take more than the 64 MiB of logits that a row may hold: two chunks. 16 tokens take one.
TEST_P(CrossEntropy, GivesTheSameBitsHoweverTheVocabularyIsCut) {
  if (GetParam().first == "portable") GTEST_SKIP() << "slow, and the same code";
  const int64_t vocabulary = 16640, hidden = 3, many = 1024, few = 16;
  const Head head(*arrays_, dtype(), vocabulary, hidden);
  const Tensor x = arrays_->Normal(dtype(), {many, hidden}, 1);
  std::vector<double> labels(many, -1);
  for (int64_t t = 0; t < few; ++t) labels[static_cast<size_t>(t)] = static_cast<double>(vocabulary - 1 - t * 1001);
  const GradientTarget cut = Target(vocabulary, hidden), whole = Target(vocabulary, hidden);
  const Tensor all_labels = arrays_->Of(DType::kI32, {many}, labels);
  const Loss a(*arrays_, head, x, all_labels, 1, cut, 0.7f);
  const Loss b(*arrays_, head, x.Slice(0, 0, few), all_labels.Slice(0, 0, few), 1, whole, 0.7f);
  ASSERT_LT(a.args.workspace.Bytes(), many * vocabulary * 4 + (1 << 20));  // or the test says nothing
  ExpectEqualBits(a.args.loss, b.args.loss);
  ExpectEqualBits(a.args.log_probs.Slice(0, 0, few), b.args.log_probs);
  ExpectEqualBits(a.args.dx.Slice(0, 0, few), b.args.dx);
  ExpectEqualBits(cut.sum, whole.sum);
}

TEST_P(CrossEntropy, AddsTheSameHeadGradientForAnySplitOfTheRows) {
  struct Sizes {
    int64_t vocabulary, hidden, length, rows, slots;  // slots: rows that share memory
  };
  // All rows at once; four and one; one after the other, where tokens of a row and the weights of the last one are one
  // job.
  for (const Sizes z : {Sizes{265, 50, 19, 3, 3}, Sizes{2000, 3, 130, 5, 5}, Sizes{8200, 3, 130, 4, 2}}) {
    const Head head(*arrays_, dtype(), z.vocabulary, z.hidden);
    const int64_t tokens = z.rows * z.length;
    const Tensor x = arrays_->Normal(dtype(), {tokens, z.hidden}, 1);
    const Tensor labels = arrays_->Of(DType::kI32, {tokens}, SomeLabels(tokens, z.vocabulary));
    const GradientTarget together = Target(z.vocabulary, z.hidden), apart = Target(z.vocabulary, z.hidden);
    const Loss all(*arrays_, head, x, labels, z.rows, together);
    const int64_t row_logits = z.length * z.vocabulary * int64_t{sizeof(float)};
    EXPECT_GE(all.args.workspace.Bytes(), z.slots * row_logits);
    if (z.slots < z.rows) {
      EXPECT_LT(all.args.workspace.Bytes(), z.rows * row_logits);
    }
    for (int64_t row = z.rows - 1; row >= 0; --row) {
      const Loss one(*arrays_, head, x.Slice(0, row * z.length, z.length), labels.Slice(0, row * z.length, z.length), 1,
                     apart);
      ExpectEqualBits(one.args.dx, all.args.dx.Slice(0, row * z.length, z.length));
      ExpectEqualBits(one.args.loss, all.args.loss.Slice(0, row, 1));
      ExpectEqualBits(one.args.log_probs, all.args.log_probs.Slice(0, row * z.length, z.length));
    }
    ExpectEqualBits(together.sum, apart.sum);
    EXPECT_EQ(arrays_->Values(together.flag)[0], 0);
  }
}

TEST_P(CrossEntropy, DoesNotSeeTokensWithoutLabels) {
  const int64_t vocabulary = 60, hidden = 18, tokens = 7;
  const Head head(*arrays_, dtype(), vocabulary, hidden);
  std::vector<double> x = arrays_->Values(arrays_->Normal(dtype(), {tokens, hidden}, 1)), few;
  std::vector<double> labels = {-1, 3, 59, -1, -1, 0, -1}, few_labels;
  for (size_t t = 0; t < labels.size(); ++t) {
    const auto first = x.begin() + static_cast<ptrdiff_t>(t) * hidden;
    if (labels[t] < 0) {
      std::fill(first, first + hidden, kNan);
    } else {
      few.insert(few.end(), first, first + hidden);
      few_labels.push_back(labels[t]);
    }
  }
  const GradientTarget with = Target(vocabulary, hidden), without = Target(vocabulary, hidden);
  const Loss all(*arrays_, head, arrays_->Of(dtype(), {tokens, hidden}, x), arrays_->Of(DType::kI32, {tokens}, labels),
                 1, with);
  const Loss labelled(*arrays_, head, arrays_->Of(dtype(), {3, hidden}, few), arrays_->Of(DType::kI32, {3}, few_labels),
                      1, without);
  ExpectEqualBits(all.args.loss, labelled.args.loss);
  ExpectEqualBits(with.sum, without.sum);
  ExpectEqualBits(all.args.dx.Slice(0, 1, 2), labelled.args.dx.Slice(0, 0, 2));
  const std::vector<double> dx = arrays_->Values(all.args.dx), log_probs = arrays_->Values(all.args.log_probs);
  for (size_t t : {0, 3, 4, 6}) {
    EXPECT_EQ(log_probs[t], 0);
    for (int64_t d = 0; d < hidden; ++d) EXPECT_EQ(dx[t * hidden + static_cast<size_t>(d)], 0);
  }
}

TEST_P(CrossEntropy, ReportsContributionsOutOfRange) {
  const int64_t vocabulary = 60, hidden = 18, tokens = 7;
  const Head head(*arrays_, dtype(), vocabulary, hidden);
  const Tensor labels = arrays_->Of(DType::kI32, {tokens}, SomeLabels(tokens, vocabulary));
  const GradientTarget small = Target(vocabulary, hidden, 1e-3f), usual = Target(vocabulary, hidden);
  const Loss tight(*arrays_, head, arrays_->Normal(dtype(), {tokens, hidden}, 1), labels, 1, small);
  EXPECT_EQ(arrays_->Values(small.flag)[0], 1);
  const Loss broken(*arrays_, head, arrays_->Of(dtype(), {tokens, hidden}, {1, kNan, 2}), labels, 1, usual);
  EXPECT_EQ(arrays_->Values(usual.flag)[0], 1);
}

// Equal weights are a scale, and a weight of 0 is a label that teaches nothing.
TEST_P(CrossEntropy, TakesAScaleForAllTokensOrAWeightForEach) {
  const int64_t vocabulary = 265, hidden = 18, tokens = 30;
  const Head head(*arrays_, dtype(), vocabulary, hidden);
  const Tensor x = arrays_->Normal(dtype(), {tokens, hidden}, 1);
  std::vector<double> labels = SomeLabels(tokens, vocabulary), fewer = labels;
  std::vector<double> weights(labels.size(), 0.125);
  for (size_t t : {2, 3, 17}) {
    weights[t] = 0;
    fewer[t] = -1;
  }
  const GradientTarget scaled = Target(vocabulary, hidden), weighted = Target(vocabulary, hidden);
  const Loss loss(*arrays_, head, x, arrays_->Of(DType::kI32, {tokens}, fewer), 2, scaled, 1.25f);
  CrossEntropyArgs args = loss.args;
  args.labels = arrays_->Of(DType::kI32, {tokens}, labels);
  args.z_loss = 0;
  args.token_weights = arrays_->Of(DType::kF32, {tokens}, weights);
  args.dx = arrays_->Of(dtype(), {tokens, hidden}, {kNan});
  args.target = weighted;
  arrays_->kernels().LinearCrossEntropy(args);
  CrossEntropyArgs plain = loss.args;
  plain.z_loss = 0;
  plain.target = Target(vocabulary, hidden);
  arrays_->kernels().LinearCrossEntropy(plain);
  ExpectEqualBits(args.dx, plain.dx);
  ExpectEqualBits(weighted.sum, plain.target.sum);
}

// Promise 4: the sampler is the trainer.
TEST_P(CrossEntropy, GivesASampledTokenTheLogProbabilityOfTheSampler) {
  for (const auto& [vocabulary, temperature] : {std::pair<int64_t, float>{265, 1}, {768, 0.6f}, {1000, 1.3f}}) {
    const int64_t hidden = 40, tokens = 30;
    const Head head(*arrays_, dtype(), vocabulary, hidden);
    const Tensor x = arrays_->Normal(dtype(), {tokens, hidden}, 1);
    const Tensor logits = arrays_->Zeros(DType::kF32, {tokens, vocabulary});
    arrays_->kernels().Gemm({.x = x, .w = head.forward, .bias = {}, .addend = {}, .y = logits});
    std::vector<double> ids;
    // The test's arrays of i64 hold multiples of the gradients' unit.
    for (int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<double>(t) * kGradientUnit);
    const SampleArgs sample = {.logits = logits,
                               .temperature = temperature,
                               .key = 5,
                               .draw_ids = arrays_->Of(DType::kI64, {tokens}, ids),
                               .tokens = arrays_->Zeros(DType::kI32, {tokens}),
                               .log_probs = arrays_->Zeros(DType::kF32, {tokens})};
    arrays_->kernels().Sample(sample);
    const Loss loss(*arrays_, head, x, sample.tokens, 1, Target(vocabulary, hidden), temperature);
    ExpectEqualBits(loss.args.log_probs, sample.log_probs);
  }
}

std::vector<std::pair<std::string, DType>> TargetsAndDtypes() {
  std::vector<std::pair<std::string, DType>> all;
  for (const char* target : {"portable", "avx2", "avx512", "avx512_bf16", "amx"}) {
    all.push_back({target, DType::kF32});
    all.push_back({target, DType::kBf16});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, CrossEntropy, testing::ValuesIn(TargetsAndDtypes()),
                         [](const auto& info) { return info.param.first + "_" + Name(info.param.second); });

}  // namespace
}  // namespace conclave::core::test
