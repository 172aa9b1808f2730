// SPDX-License-Identifier: Apache-2.0
// Laws of the divergence from a teacher beyond those of every operation: nothing where the two are equal, how the
// vocabulary is cut changes no bit, its sums are those of the cross entropy, and the numbers are PyTorch's.
#include <algorithm>
#include <cmath>
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

using Direction = DivergenceArgs::Direction;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr float kTemperature = 0.7f;

Devices& AllDevices() {
  static Devices devices;
  return devices;
}

struct Head {
  Head(DeviceArrays& arrays, Tensor f32_weights, DType dtype)
      : weights(f32_weights),
        forward{.panels = {}, .dtype = dtype, .out = weights.size(0), .in = weights.size(1)},
        backward{.panels = {}, .dtype = dtype, .out = weights.size(1), .in = weights.size(0)} {
    Kernels& k = arrays.kernels();
    for (PackedWeight* panels : {&forward, &backward}) {
      panels->panels = arrays.Zeros(DType::kU8, {k.PackedBytes(dtype, 1, panels->out, panels->in)});
    }
    k.PackWeight(weights, forward, backward);
  }
  Tensor weights;
  PackedWeight forward, backward;
};

struct Side {
  const Head& head;
  Tensor x;
};

// Of one row of tokens: divergence and gradients.
DivergenceArgs Compute(DeviceArrays& arrays, Direction direction, const Side& student, const Side& teacher,
                       Tensor labels, float temperature = kTemperature) {
  const int64_t tokens = student.x.size(0), hidden = student.x.size(1), vocabulary = student.head.forward.out;
  DivergenceArgs args{.direction = direction,
                      .student = {.x = student.x,
                                  .head = student.head.forward,
                                  .labels = labels,
                                  .rows = 1,
                                  .temperature = temperature,
                                  .loss = arrays.Zeros(DType::kF64, {1}),
                                  .z_sum = arrays.Zeros(DType::kF64, {1}),
                                  .log_probs = arrays.Zeros(DType::kF32, {tokens}),
                                  .scale = 0.5f,
                                  .head_backward = student.head.backward,
                                  .dx = arrays.Of(student.x.dtype, {tokens, hidden}, {kNan}),
                                  .target = {.sum = arrays.Zeros(DType::kI64, {vocabulary, hidden}),
                                             .flag = arrays.Zeros(DType::kI32, {1}),
                                             .limit = 4096},
                                  .workspace = {}},
                      .teacher_x = teacher.x,
                      .teacher_head = teacher.head.forward,
                      .divergence = arrays.Zeros(DType::kF64, {1})};
  args.student.workspace = arrays.Zeros(DType::kU8, {arrays.kernels().DivergenceWorkspace(args)});
  arrays.kernels().LinearDivergence(args);
  return args;
}

class Divergence : public testing::TestWithParam<std::pair<std::string, DType>> {
 protected:
  void SetUp() override {
    const auto& targets = AllDevices().targets();
    if (std::find(targets.begin(), targets.end(), GetParam().first) == targets.end()) {
      GTEST_SKIP() << "this machine has no " << GetParam().first;
    }
    arrays_ = std::make_unique<DeviceArrays>(AllDevices().Get(GetParam().first, 2));
  }
  DType dtype() const { return GetParam().second; }
  Head RandomHead(int64_t vocabulary, int64_t hidden, uint64_t key) {
    return Head(*arrays_, arrays_->Normal(DType::kF32, {vocabulary, hidden}, key), dtype());
  }
  Tensor SomeLabels(int64_t tokens, int64_t vocabulary) {
    std::vector<double> labels;
    for (int64_t t = 0; t < tokens; ++t) labels.push_back(t % 4 == 1 ? -1 : static_cast<double>(t * 37 % vocabulary));
    return arrays_->Of(DType::kI32, {tokens}, labels);
  }
  void ExpectEqualBits(const Tensor& a, const Tensor& b) { EXPECT_TRUE(arrays_->Bytes(a) == arrays_->Bytes(b)); }
  void ExpectZeros(const Tensor& tensor) {
    for (const double value : arrays_->Values(tensor)) ASSERT_EQ(value, 0);
  }

  std::unique_ptr<DeviceArrays> arrays_;
};

constexpr Direction kDirections[] = {Direction::kForward, Direction::kReverse};

TEST_P(Divergence, IsExactlyNothingBetweenEqualModels) {
  for (const Direction direction : kDirections) {
    for (const int64_t vocabulary : {7, 768, 1601}) {  // a part of a block, a block, several
      const int64_t hidden = 24, tokens = 13;
      const Head head = RandomHead(vocabulary, hidden, 11);
      const Side both{head, arrays_->Normal(dtype(), {tokens, hidden}, 1)};
      const DivergenceArgs args = Compute(*arrays_, direction, both, both, SomeLabels(tokens, vocabulary));
      ExpectZeros(args.divergence);
      ExpectZeros(args.student.dx);
      ExpectZeros(args.student.target.sum);
      EXPECT_GT(arrays_->Values(args.student.loss)[0], 1);
    }
  }
}

TEST_P(Divergence, TellsTheSumsOfTheCrossEntropyToTheBit) {
  const int64_t vocabulary = 1000, hidden = 24, tokens = 40;
  const Head head = RandomHead(vocabulary, hidden, 11), other = RandomHead(vocabulary, 10, 12);
  const Tensor x = arrays_->Normal(dtype(), {tokens, hidden}, 1), labels = SomeLabels(tokens, vocabulary);
  const DivergenceArgs args =
      Compute(*arrays_, Direction::kReverse, {head, x}, {other, arrays_->Normal(dtype(), {tokens, 10}, 2)}, labels);
  const CrossEntropyArgs plain{.x = x,
                               .head = head.forward,
                               .labels = labels,
                               .rows = 1,
                               .temperature = kTemperature,
                               .loss = arrays_->Zeros(DType::kF64, {1}),
                               .z_sum = arrays_->Zeros(DType::kF64, {1}),
                               .log_probs = arrays_->Zeros(DType::kF32, {tokens}),
                               .head_backward = {},
                               .dx = {},
                               .target = {},
                               .workspace = {}};
  arrays_->kernels().LinearCrossEntropy(plain);
  ExpectEqualBits(args.student.loss, plain.loss);
  ExpectEqualBits(args.student.z_sum, plain.z_sum);
  ExpectEqualBits(args.student.log_probs, plain.log_probs);
}

// 1024 tokens by 8960 entries take more than the 32 MiB of logits that a row of each model may hold: two chunks.
TEST_P(Divergence, GivesTheSameBitsHoweverTheVocabularyIsCut) {
  if (GetParam().first == "portable") GTEST_SKIP() << "slow, and the same code";
  const int64_t vocabulary = 8960, hidden = 3, many = 1024, few = 16;
  const Head head = RandomHead(vocabulary, hidden, 11), other = RandomHead(vocabulary, 5, 12);
  const Tensor x = arrays_->Normal(dtype(), {many, hidden}, 1), y = arrays_->Normal(dtype(), {many, 5}, 2);
  std::vector<double> labels(many, -1);
  for (int64_t t = 0; t < few; ++t) labels[static_cast<size_t>(t)] = static_cast<double>(vocabulary - 1 - t * 501);
  const Tensor all_labels = arrays_->Of(DType::kI32, {many}, labels);
  for (const Direction direction : kDirections) {
    const DivergenceArgs cut = Compute(*arrays_, direction, {head, x}, {other, y}, all_labels);
    const DivergenceArgs whole = Compute(*arrays_, direction, {head, x.Slice(0, 0, few)}, {other, y.Slice(0, 0, few)},
                                         all_labels.Slice(0, 0, few));
    ASSERT_LT(cut.student.workspace.Bytes(), 2 * many * vocabulary * 4);  // or the test says nothing
    ExpectEqualBits(cut.divergence, whole.divergence);
    ExpectEqualBits(cut.student.log_probs.Slice(0, 0, few), whole.student.log_probs);
    ExpectEqualBits(cut.student.dx.Slice(0, 0, few), whole.student.dx);
    ExpectEqualBits(cut.student.target.sum, whole.student.target.sum);
  }
}

TEST_P(Divergence, DoesNotSeeTokensWithoutLabels) {
  const int64_t vocabulary = 60, tokens = 4;
  const Head head = RandomHead(vocabulary, 2, 11), other = RandomHead(vocabulary, 3, 12);
  const Tensor labels = arrays_->Of(DType::kI32, {tokens}, {-1, 3, 59, -1});
  const Tensor x = arrays_->Of(dtype(), {tokens, 2}, {kNan, kNan, 1, 2, -1, 0.5, kNan, kNan});
  const Tensor y = arrays_->Of(dtype(), {tokens, 3}, {kNan, kNan, kNan, 1, 2, 3, -1, 0, 2, kNan, kNan, kNan});
  for (const Direction direction : kDirections) {
    const DivergenceArgs all = Compute(*arrays_, direction, {head, x}, {other, y}, labels);
    const DivergenceArgs labelled = Compute(*arrays_, direction, {head, x.Slice(0, 1, 2)}, {other, y.Slice(0, 1, 2)},
                                            arrays_->Of(DType::kI32, {2}, {3, 59}));
    ExpectEqualBits(all.divergence, labelled.divergence);
    ExpectEqualBits(all.student.target.sum, labelled.student.target.sum);
    ExpectEqualBits(all.student.dx.Slice(0, 1, 2), labelled.student.dx);
    ExpectZeros(all.student.dx.Slice(0, 0, 1));
    ExpectZeros(all.student.dx.Slice(0, 3, 1));
    EXPECT_EQ(arrays_->Values(all.student.target.flag)[0], 0);
  }
}

TEST_P(Divergence, ReportsATeacherThatIsNoDistribution) {
  const int64_t vocabulary = 60, tokens = 4;
  const Head head = RandomHead(vocabulary, 2, 11), other = RandomHead(vocabulary, 3, 12);
  const Tensor labels = arrays_->Of(DType::kI32, {tokens}, {1, 2, 3, 4});
  const Tensor x = arrays_->Normal(dtype(), {tokens, 2}, 1);
  const Tensor y = arrays_->Of(dtype(), {tokens, 3}, {1, 2, 3, 4, kNan, 6, 7});
  for (const Direction direction : kDirections) {
    const DivergenceArgs args = Compute(*arrays_, direction, {head, x}, {other, y}, labels);
    EXPECT_TRUE(std::isnan(arrays_->Values(args.divergence)[0]));
    EXPECT_EQ(arrays_->Values(args.student.target.flag)[0], 1);
  }
}

// Half the sum of F.kl_div(..., log_target=True) over tokens and its gradients, in float64, of PyTorch 2.15.
struct Expected {
  Direction direction;
  double divergence;
  std::vector<double> dx, d_head;
};

const Expected kPyTorch[] = {{Direction::kForward,
                              1.3114892,
                              {-0.0045423, -0.0730656, -0.1894736, 0.2718763, -0.3173745, 0.1451085, 0.0955959,
                               -0.1487581, 0.2218773, -0.0323081, 0.1054123, -0.1156915},
                              {-0.0207336, 0.0120823,  0.0448982,  -0.2187913, -0.1333321, -0.0742535, -0.0151749,
                               0.1570556,  -0.0531404, -0.0448462, -0.0365520, 0.0599500,  0.1399584,  0.1083507,
                               0.0767430,  -0.1238171, 0.0672477,  -0.0013333, -0.0699143, 0.1256028}},
                             {Direction::kReverse,
                              1.4558118,
                              {0.1928040, -0.0804107, -0.1836022, 0.2774419, -0.2334070, 0.0732900, 0.0286465,
                               -0.0490124, 0.6472007, -0.0526486, 0.0824593, -0.1486015},
                              {0.1664980, -0.0332356, -0.2329692, -0.1300148, -0.2364367, -0.1116611, 0.0131145,
                               0.2510442, -0.0457961, -0.0420528, -0.0383096, 0.0558981,  0.0004395,  0.1553718,
                               0.3103041, -0.1461713, 0.1152953,  0.0315777,  -0.0521398, -0.0307562}}};

TEST_P(Divergence, IsThatOfPyTorch) {
  const int64_t tokens = 3, hidden = 4, teacher_hidden = 6, vocabulary = 5;
  const auto eighths = [](int64_t count, int64_t factor) {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i * factor % 17 - 8) / 8);
    return values;
  };
  const Head head(*arrays_, arrays_->Of(DType::kF32, {vocabulary, hidden}, eighths(vocabulary * hidden, 7)), dtype());
  const Head other(*arrays_,
                   arrays_->Of(DType::kF32, {vocabulary, teacher_hidden}, eighths(vocabulary * teacher_hidden, 11)),
                   dtype());
  const Side student{head, arrays_->Of(dtype(), {tokens, hidden}, eighths(tokens * hidden, 5))};
  const Side teacher{other, arrays_->Of(dtype(), {tokens, teacher_hidden}, eighths(tokens * teacher_hidden, 3))};
  const Tensor labels = arrays_->Of(DType::kI32, {tokens}, {0, 4, 2});
  const double tolerance = dtype() == DType::kF32 ? 1e-6 : 4e-3;
  for (const Expected& expected : kPyTorch) {
    const DivergenceArgs args = Compute(*arrays_, expected.direction, student, teacher, labels, 0.8f);
    EXPECT_NEAR(arrays_->Values(args.divergence)[0], expected.divergence, 1e-6);
    const std::vector<double> dx = arrays_->Values(args.student.dx), dw = arrays_->Values(args.student.target.sum);
    for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(dx[i], expected.dx[i], tolerance) << i;
    for (size_t i = 0; i < dw.size(); ++i) EXPECT_NEAR(dw[i], expected.d_head[i], tolerance) << i;
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

INSTANTIATE_TEST_SUITE_P(All, Divergence, testing::ValuesIn(TargetsAndDtypes()),
                         [](const auto& info) { return info.param.first + "_" + Name(info.param.second); });

}  // namespace
}  // namespace conclave::core::test
