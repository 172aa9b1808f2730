// SPDX-License-Identifier: Apache-2.0
// What every operation must keep, for every case of op_cases.h, on every instruction set of this machine: its formula
// and gradients, and the batch, thread and machine laws of kernels.h. Laws compare bytes.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "tests/ops/op_cases.h"
#include "tests/support/devices.h"
#include "tests/support/op_run.h"

namespace conclave::core::test {
namespace {

Devices& AllDevices() {
  static Devices devices;
  return devices;
}

// The instruction set whose bits are compared with those of others; the best one also for speed.
const std::string& BestTarget() { return AllDevices().targets().back(); }

class Operation : public testing::TestWithParam<OpCase> {
 protected:
  // body(problem) for each shape and dtype of the case.
  template <class Body>
  void ForEachProblem(bool extreme, const Body& body) const {
    for (const Shape& shape : GetParam().shapes) {
      for (DType dtype : GetParam().dtypes) {
        SCOPED_TRACE(Describe(shape, dtype));
        body(MakeProblem(GetParam(), shape, dtype, extreme));
      }
    }
  }

  static std::string Describe(const Shape& shape, DType dtype) {
    std::string text = absl::StrFormat("%s of %s, %s =", Name(dtype), GetParam().name, GetParam().dims);
    for (int64_t size : shape) text += absl::StrFormat(" %d", size);
    return text;
  }

  void ExpectTruth(bool extreme) const {
    ForEachProblem(extreme, [&](const Problem& problem) {
      const auto truth = Truth(GetParam(), problem);
      for (const std::string& target : AllDevices().targets()) {
        SCOPED_TRACE(target);
        const Problem result = RunCase(GetParam(), problem, AllDevices().Get(target, 2));
        for (const auto& [name, elements] : truth) {
          const Array& array = *result.Find(name);
          std::vector<double> got, want;
          for (const TrueElement& element : elements) {
            got.push_back(array.Get(element.index));
            want.push_back(element.value);
          }
          EXPECT_EQ(Difference(got, want, array.tolerance), "") << "in output " << name;
        }
      }
    });
  }
};

bool IsGradientSum(const Array& array) {
  return array.role == Array::Role::kOutput && array.dtype == DType::kI64 && array.name.starts_with("d_");
}

// The same problem with gradients summed in f32.
Problem WithFloatSums(const Problem& problem) {
  Problem floats = problem;
  for (Array& array : floats.arrays) {
    if (!IsGradientSum(array)) continue;
    array.dtype = DType::kF32;
    array.bytes.assign(static_cast<size_t>(array.size() * SizeOf(DType::kF32)), 0);
  }
  return floats;
}

enum class Compare { kAllOutputs, kOutputsPerRow };

// The bytes of outputs are equal.
void ExpectEqualBits(const Problem& got, const Problem& want, Compare compare = Compare::kAllOutputs) {
  for (const Array& array : want.arrays) {
    if (array.role != Array::Role::kOutput) continue;
    if (compare == Compare::kOutputsPerRow && !array.per_row) continue;
    const Array& other = *got.Find(array.name);
    ASSERT_EQ(other.bytes.size(), array.bytes.size()) << "output " << array.name;
    for (size_t i = 0; i < array.bytes.size(); ++i) {
      const int64_t element = static_cast<int64_t>(i) / SizeOf(array.dtype);
      ASSERT_EQ(other.bytes[i], array.bytes[i]) << absl::StrFormat("output %s, element %d: %.9g and %.9g", array.name,
                                                                   element, other.Get(element), array.Get(element));
    }
  }
}

TEST_P(Operation, AgreesWithItsFormulaAndItsGradients) { ExpectTruth(false); }

TEST_P(Operation, AgreesWithItsFormulaForExtremeValues) { ExpectTruth(true); }

TEST_P(Operation, HasTheSameBitsForAnyNumberOfThreads) {
  ForEachProblem(false, [&](const Problem& problem) {
    for (const std::string& target : AllDevices().targets()) {
      SCOPED_TRACE(target);
      const Problem alone = RunCase(GetParam(), problem, AllDevices().Get(target, 1));
      for (int num_threads : {2, 3, 8}) {
        SCOPED_TRACE(num_threads);
        ExpectEqualBits(RunCase(GetParam(), problem, AllDevices().Get(target, num_threads)), alone);
      }
    }
  });
}

TEST_P(Operation, HasTheSameF32BitsOnEveryInstructionSet) {
  for (bool extreme : {false, true}) {
    ForEachProblem(extreme, [&](const Problem& problem) {
      if (problem.dtype != DType::kF32) return;
      const Problem best = RunCase(GetParam(), problem, AllDevices().Get(BestTarget(), 2));
      for (const std::string& target : AllDevices().targets()) {
        SCOPED_TRACE(target);
        ExpectEqualBits(RunCase(GetParam(), problem, AllDevices().Get(target, 2)), best);
      }
    });
  }
}

TEST_P(Operation, HasTheSameBitsForARowAloneAndAmongOthers) {
  ForEachProblem(false, [&](const Problem& problem) {
    const int64_t rows = problem.shape[0];
    if (rows < 2) return;
    for (const std::string& target : AllDevices().targets()) {
      SCOPED_TRACE(target);
      const Problem whole = RunCase(GetParam(), problem, AllDevices().Get(target, 2));
      const std::pair<int64_t, int64_t> parts[] = {{0, 1}, {rows - 1, 1}, {rows / 2, rows - rows / 2}};
      for (const auto& [begin, count] : parts) {
        SCOPED_TRACE(absl::StrFormat("%d rows from %d on", count, begin));
        const Problem part = CutRows(GetParam(), problem, begin, count);
        ExpectEqualBits(RunCase(GetParam(), part, AllDevices().Get(target, 2)),
                        CutRows(GetParam(), whole, begin, count), Compare::kOutputsPerRow);
      }
    }
  });
}

TEST_P(Operation, AcceptsStridedRows) {
  ForEachProblem(false, [&](const Problem& problem) {
    for (const std::string& target : AllDevices().targets()) {
      SCOPED_TRACE(target);
      Device& device = AllDevices().Get(target, 2);
      ExpectEqualBits(RunCase(GetParam(), problem, device, Layout::kStrided), RunCase(GetParam(), problem, device));
    }
  });
}

TEST_P(Operation, AddsToIntegerSums) {
  ForEachProblem(false, [&](const Problem& problem) {
    PlacedProblem placed(problem, AllDevices().Get(BestTarget(), 2), Layout::kContiguous);
    placed.Run(GetParam().steps);
    const Problem once = placed.Read();
    placed.Run(GetParam().steps);
    const Problem twice = placed.Read();
    for (const Array& array : once.arrays) {
      if (array.role != Array::Role::kOutput || array.dtype != DType::kI64) continue;
      for (int64_t i = 0; i < array.size(); ++i) {
        ASSERT_EQ(twice.Find(array.name)->Get(i), 2 * array.Get(i)) << array.name << " at " << i;
      }
    }
  });
}

// Each row's contribution and each addition is one more rounding to f32, of 2^-24 of what is summed: far below the
// tolerance of the chains themselves, so the exact sums are as near as the formula. What is not a gradient sum keeps
// its bits.
TEST_P(Operation, AddsToFloatSumsThatAreNearTheExactOnes) {
  ForEachProblem(false, [&](const Problem& problem) {
    const Problem floats = WithFloatSums(problem);
    for (const std::string& target : AllDevices().targets()) {
      SCOPED_TRACE(target);
      Device& device = AllDevices().Get(target, 2);
      const Problem exact = RunCase(GetParam(), problem, device);
      PlacedProblem placed(floats, device, Layout::kContiguous);
      placed.Run(GetParam().steps);
      const Problem once = placed.Read();
      placed.Run(GetParam().steps);
      const Problem twice = placed.Read();
      for (const Array& array : exact.arrays) {
        if (array.role != Array::Role::kOutput) continue;
        const Array& sums = *once.Find(array.name);
        if (!IsGradientSum(array)) {
          if (array.dtype == DType::kI64) continue;
          EXPECT_EQ(sums.bytes, array.bytes) << array.name;
          continue;
        }
        const Tolerance near = Near(DType::kF32, 1e-6, 5e-6, "f32 additions of the rows' contributions");
        EXPECT_EQ(Difference(sums.ToDoubles(), array.ToDoubles(), near), "") << array.name;
        for (int64_t i = 0; i < sums.size(); ++i) {
          ASSERT_NEAR(twice.Find(array.name)->Get(i), 2 * sums.Get(i), 1e-5 * std::fabs(sums.Get(i)) + 1e-4);
        }
      }
      ExpectEqualBits(RunCase(GetParam(), floats, AllDevices().Get(target, 3)), once);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, Operation, testing::ValuesIn(AllOpCases()),
                         [](const testing::TestParamInfo<OpCase>& info) { return info.param.name; });

}  // namespace

// Keeps GoogleTest from printing the bytes of a case.
void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }

}  // namespace conclave::core::test
