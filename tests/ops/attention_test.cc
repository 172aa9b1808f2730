// SPDX-License-Identifier: Apache-2.0
// Laws of attention beyond those of every operation: a document's bits depend neither on its place in a row nor on how
// many queries a call has (the sampler is the trainer), and nothing outside of what a query may see is ever read.
#include <algorithm>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/device_arrays.h"
#include "tests/support/devices.h"

namespace conclave::core::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Sizes of a model: 4 query heads on 2 key heads, a shared part of the key.
constexpr int64_t kHeads = 4, kKeyHeads = 2, kOwn = 20, kShared = 4, kDepth = kOwn + kShared, kWidth = 24;

Devices& AllDevices() {
  static Devices devices;
  return devices;
}

// Host values of the tokens of one sequence; `key` draws them.
struct Sequence {
  Sequence(int64_t length, uint64_t key) : length(length) {
    for (auto [values, width, salt] : {std::tuple{&q, kHeads * kDepth, 1},
                                       {&k, kKeyHeads * kOwn, 2},
                                       {&k_shared, kShared, 3},
                                       {&v, kKeyHeads * kWidth, 4}}) {
      for (int64_t i = 0; i < length * width; ++i) {
        values->push_back(StandardNormal(key * 8 + static_cast<uint64_t>(salt), static_cast<uint64_t>(i)));
      }
    }
    for (int64_t s = 0; s < length; ++s) positions.push_back(static_cast<double>(s));
  }
  // `count` tokens of NaN that belong to no document.
  static Sequence Padding(int64_t count) {
    Sequence padding(count, 1);
    for (auto* values : {&padding.q, &padding.k, &padding.k_shared, &padding.v}) {
      std::fill(values->begin(), values->end(), kNan);
    }
    std::fill(padding.positions.begin(), padding.positions.end(), -1.0);
    return padding;
  }
  Sequence& Append(const Sequence& other) {
    for (auto member : {&Sequence::q, &Sequence::k, &Sequence::k_shared, &Sequence::v, &Sequence::positions}) {
      (this->*member).insert((this->*member).end(), (other.*member).begin(), (other.*member).end());
    }
    length += other.length;
    return *this;
  }

  int64_t length;
  std::vector<double> q, k, k_shared, v, positions;
};

// One row on a device, and what Attention makes of it.
struct Row {
  Row(DeviceArrays& arrays, DType dtype, const Sequence& s) {
    args.q = arrays.Of(dtype, {1, s.length, kHeads, kDepth}, s.q);
    args.k = arrays.Of(dtype, {1, s.length, kKeyHeads, kOwn}, s.k);
    args.k_shared = arrays.Of(dtype, {1, s.length, kShared}, s.k_shared);
    args.v = arrays.Of(dtype, {1, s.length, kKeyHeads, kWidth}, s.v);
    args.positions = arrays.Of(DType::kI32, {1, s.length}, s.positions);
    args.scale = 0.25f;
    args.out = arrays.Of(dtype, {1, s.length, kHeads, kWidth}, {kNan});
    args.lse = arrays.Of(DType::kF32, {1, s.length, kHeads}, {kNan});
    arrays.kernels().Attention(args);
  }
  AttentionArgs args;
};

// Tokens [begin, begin + count) of out and lse as bytes.
std::vector<unsigned char> Results(DeviceArrays& arrays, const AttentionArgs& args, int64_t begin, int64_t count) {
  std::vector<unsigned char> bytes = arrays.Bytes(args.out.MergeFirst().Slice(0, begin, count));
  const std::vector<unsigned char> lse = arrays.Bytes(args.lse.MergeFirst().Slice(0, begin, count));
  bytes.insert(bytes.end(), lse.begin(), lse.end());
  return bytes;
}

bool AllFinite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

// Each test for every instruction set and dtype.
class Attention : public testing::TestWithParam<std::pair<std::string, DType>> {
 protected:
  void SetUp() override {
    const auto& targets = AllDevices().targets();
    if (std::find(targets.begin(), targets.end(), GetParam().first) == targets.end()) {
      GTEST_SKIP() << "this machine has no " << GetParam().first;
    }
    arrays_ = std::make_unique<DeviceArrays>(AllDevices().Get(GetParam().first, 2));
  }
  DType dtype() const { return GetParam().second; }

  std::unique_ptr<DeviceArrays> arrays_;
};

TEST_P(Attention, GivesADocumentTheSameBitsWhereverItIsPacked) {
  for (int64_t length : {1, 2, 95, 96, 97, 200}) {
    SCOPED_TRACE(length);
    const Sequence document(length, 7);
    const Row alone(*arrays_, dtype(), document);
    Sequence packed(37, 8);
    packed.Append(document).Append(Sequence(11, 9)).Append(Sequence::Padding(3));
    const Row among_others(*arrays_, dtype(), packed);
    EXPECT_EQ(Results(*arrays_, alone.args, 0, length), Results(*arrays_, among_others.args, 37, length));
  }
}

// A cache of two sequences, read by `queries` tokens of each per call, from `begin` on.
TEST_P(Attention, GivesDecodedTokensTheBitsOfTraining) {
  constexpr int64_t kLength = 200, kCapacity = 260, kDistance = 13;
  const Sequence sequences[2] = {Sequence(kLength, 3), Sequence(kLength, 4)};
  const Row trained[2] = {Row(*arrays_, dtype(), sequences[0]), Row(*arrays_, dtype(), sequences[1])};
  for (int64_t queries : {1, 5}) {
    for (int64_t begin : {0, 1, 47, 94, 95, 96, 97, 150, 195}) {
      SCOPED_TRACE(testing::Message() << queries << " queries from " << begin);
      // Sequence 1 stands `kDistance` keys into the cache; what has not been decoded yet is NaN.
      std::vector<double> q, k, k_shared, v, positions, key_index;
      for (int64_t b = 0; b < 2; ++b) {
        const Sequence& sequence = sequences[b];
        const auto cache = [&](const std::vector<double>& values, int64_t width, std::vector<double>& out) {
          out.insert(out.end(), static_cast<size_t>(b * kDistance * width), kNan);
          out.insert(out.end(), values.begin(), values.begin() + (begin + queries) * width);
          out.resize(static_cast<size_t>((b + 1) * kCapacity * width), kNan);
        };
        cache(sequence.k, kKeyHeads * kOwn, k);
        cache(sequence.k_shared, kShared, k_shared);
        cache(sequence.v, kKeyHeads * kWidth, v);
        const auto first = sequence.q.begin() + begin * kHeads * kDepth;
        q.insert(q.end(), first, first + queries * kHeads * kDepth);
        for (int64_t s = begin; s < begin + queries; ++s) {
          positions.push_back(static_cast<double>(s));
          key_index.push_back(static_cast<double>(s + b * kDistance));
        }
      }
      const AttentionArgs args = {.q = arrays_->Of(dtype(), {2, queries, kHeads, kDepth}, q),
                                  .k = arrays_->Of(dtype(), {2, kCapacity, kKeyHeads, kOwn}, k),
                                  .k_shared = arrays_->Of(dtype(), {2, kCapacity, kShared}, k_shared),
                                  .v = arrays_->Of(dtype(), {2, kCapacity, kKeyHeads, kWidth}, v),
                                  .positions = arrays_->Of(DType::kI32, {2, queries}, positions),
                                  .key_index = arrays_->Of(DType::kI32, {2, queries}, key_index),
                                  .scale = 0.25f,
                                  .out = arrays_->Zeros(dtype(), {2, queries, kHeads, kWidth}),
                                  .lse = arrays_->Zeros(DType::kF32, {2, queries, kHeads})};
      arrays_->kernels().Attention(args);
      for (int64_t b = 0; b < 2; ++b) {
        EXPECT_EQ(Results(*arrays_, args, b * queries, queries), Results(*arrays_, trained[b].args, begin, queries));
      }
    }
  }
}

// Calls of few rows read keys and values where they stand, others pack them into panels.
TEST_P(Attention, GivesFewQueriesTheBitsOfMany) {
  struct Heads {
    int64_t heads, key_heads, own, shared, width;
  };
  constexpr int64_t kLength = 130;
  for (const Heads& z :
       {Heads{1, 1, 32, 16, 32}, Heads{2, 2, 7, 5, 70}, Heads{3, 1, 19, 0, 33}, Heads{4, 1, 8, 1, 16}}) {
    const auto random = [&](std::initializer_list<int64_t> shape, uint64_t key) {
      std::vector<double> values;
      const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
      for (int64_t i = 0; i < count; ++i) values.push_back(StandardNormal(key, static_cast<uint64_t>(i)));
      return arrays_->Of(dtype(), shape, values);
    };
    const Tensor index = arrays_->Of(DType::kI32, {1, kLength}, Sequence(kLength, 1).positions);
    const auto attend = [&](AttentionArgs args, int64_t begin, int64_t count) {
      args.q = args.q.Slice(1, begin, count);
      args.positions = args.key_index = index.Slice(1, begin, count);
      args.out = arrays_->Zeros(dtype(), {1, count, z.heads, z.width});
      args.lse = arrays_->Zeros(DType::kF32, {1, count, z.heads});
      arrays_->kernels().Attention(args);
      return args;
    };
    const AttentionArgs args = {.q = random({1, kLength, z.heads, z.own + z.shared}, 1),
                                .k = random({1, kLength, z.key_heads, z.own}, 2),
                                .k_shared = z.shared > 0 ? random({1, kLength, z.shared}, 3) : Tensor{},
                                .v = random({1, kLength, z.key_heads, z.width}, 4),
                                .positions = {},
                                .key_index = {},
                                .scale = 0.25f,
                                .out = {},
                                .lse = {}};
    const AttentionArgs all = attend(args, 0, kLength);
    for (int64_t count : {1, 2, 3, 4}) {
      for (int64_t begin : {0, 1, 14, 15, 93, 94, 95, 96, 126}) {
        SCOPED_TRACE(testing::Message() << z.heads << " heads, " << count << " queries from " << begin);
        EXPECT_EQ(Results(*arrays_, attend(args, begin, count), 0, count), Results(*arrays_, all, begin, count));
      }
    }
  }
}

TEST_P(Attention, ReadsNothingBeyondADocument) {
  Sequence poisoned = Sequence::Padding(5), clean = poisoned;
  const Sequence document(110, 5), tail = Sequence::Padding(4);
  poisoned.Append(document).Append(tail);
  const Row row(*arrays_, dtype(), poisoned), alone(*arrays_, dtype(), document);
  EXPECT_EQ(Results(*arrays_, row.args, 5, 110), Results(*arrays_, alone.args, 0, 110));
  for (const Tensor& x : {row.args.out, row.args.lse}) EXPECT_TRUE(AllFinite(arrays_->Values(x)));
}

TEST_P(Attention, GivesPaddingZeros) {
  const Row row(*arrays_, dtype(), Sequence(3, 5).Append(Sequence::Padding(2)));
  const std::vector<double> out = arrays_->Values(row.args.out), lse = arrays_->Values(row.args.lse);
  for (size_t i = 3 * kHeads * kWidth; i < out.size(); ++i) EXPECT_EQ(out[i], 0);
  for (size_t i = 3 * kHeads; i < lse.size(); ++i) EXPECT_EQ(lse[i], 0);
}

TEST_P(Attention, CopiesTheValueOfALonelyToken) {
  const Row row(*arrays_, dtype(), Sequence(1, 5));
  const std::vector<double> out = arrays_->Values(row.args.out), v = arrays_->Values(row.args.v);
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t i = 0; i < kWidth; ++i) EXPECT_EQ(out[h * kWidth + i], v[h / 2 * kWidth + i]);
  }
}

// The gradients of a row in which everything outside of one document is NaN.
TEST_P(Attention, BackwardReadsNoPaddingAndGivesItZeros) {
  const int64_t before = 3, length = 100, after = 6, all = before + length + after;
  Sequence padded = Sequence::Padding(before);
  padded.Append(Sequence(length, 5)).Append(Sequence::Padding(after));
  const Row row(*arrays_, dtype(), padded);
  std::vector<double> d_out(static_cast<size_t>(all * kHeads * kWidth), 0.5);
  std::fill(d_out.begin(), d_out.begin() + before * kHeads * kWidth, kNan);
  std::fill(d_out.end() - after * kHeads * kWidth, d_out.end(), kNan);
  const AttentionBackwardArgs args = {.forward = row.args,
                                      .d_out = arrays_->Of(dtype(), {1, all, kHeads, kWidth}, d_out),
                                      .dq = arrays_->Of(dtype(), {1, all, kHeads, kDepth}, {kNan}),
                                      .dk = arrays_->Of(dtype(), {1, all, kKeyHeads, kOwn}, {kNan}),
                                      .dk_shared = arrays_->Of(dtype(), {1, all, kShared}, {kNan}),
                                      .dv = arrays_->Of(dtype(), {1, all, kKeyHeads, kWidth}, {kNan})};
  Kernels& kernels = arrays_->kernels();
  kernels.AttentionBackward(args, arrays_->Zeros(DType::kU8, {kernels.AttentionBackwardWorkspace(args)}));
  for (const Tensor& x : {args.dq, args.dk, args.dk_shared, args.dv}) {
    const std::vector<double> values = arrays_->Values(x);
    EXPECT_TRUE(AllFinite(values));
    const size_t width = values.size() / static_cast<size_t>(all);
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t s = static_cast<int64_t>(i / width);
      if (s < before || s >= before + length) {
        EXPECT_EQ(values[i], 0);
      }
    }
    EXPECT_NE(values[static_cast<size_t>(before + 50) * width], 0);
  }
}

// Keys and values are often two parts of one projection.
TEST_P(Attention, TakesKeysAndValuesFromOneBuffer) {
  const Row apart(*arrays_, dtype(), Sequence(50, 5));
  std::vector<double> both;
  const std::vector<double> k = arrays_->Values(apart.args.k), v = arrays_->Values(apart.args.v);
  for (int64_t i = 0; i < 50 * kKeyHeads; ++i) {
    both.insert(both.end(), k.begin() + i * kOwn, k.begin() + (i + 1) * kOwn);
    both.insert(both.end(), v.begin() + i * kWidth, v.begin() + (i + 1) * kWidth);
  }
  const Tensor buffer = arrays_->Of(dtype(), {1, 50, kKeyHeads, kOwn + kWidth}, both);
  AttentionArgs args = apart.args;
  args.k = buffer.Slice(3, 0, kOwn);
  args.v = buffer.Slice(3, kOwn, kWidth);
  args.out = arrays_->Zeros(dtype(), {1, 50, kHeads, kWidth});
  args.lse = arrays_->Zeros(DType::kF32, {1, 50, kHeads});
  arrays_->kernels().Attention(args);
  EXPECT_EQ(Results(*arrays_, args, 0, 50), Results(*arrays_, apart.args, 0, 50));
}

std::vector<std::pair<std::string, DType>> TargetsAndDtypes() {
  std::vector<std::pair<std::string, DType>> all;
  for (const char* target : {"portable", "avx2", "avx512", "avx512_bf16", "amx"}) {
    all.push_back({target, DType::kF32});
    all.push_back({target, DType::kBf16});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Attention, testing::ValuesIn(TargetsAndDtypes()),
                         [](const auto& info) { return info.param.first + "_" + Name(info.param.second); });

}  // namespace
}  // namespace conclave::core::test
