// SPDX-License-Identifier: Apache-2.0
// The list of all operation cases. Add a line to both lists and a file <op>_case.cc: tests and benchmark follow.
#pragma once

#include <vector>

#include "tests/support/op_case.h"

namespace conclave::core::test {

OpCase MakeAttentionCase();
OpCase MakeCrossEntropyCase();
OpCase MakeForwardDivergenceCase();
OpCase MakeGemmCase();
OpCase MakeGroupedGemmCase();
OpCase MakeHeadGemmCase();
OpCase MakePermuteCase();
OpCase MakePolicyLossCase();
OpCase MakeReverseDivergenceCase();
OpCase MakeRmsNormCase();
OpCase MakeRopeCase();
OpCase MakeRouterCase();
OpCase MakeSwiGluCase();
OpCase MakeWeightGradCase();
OpCase MakeWeightedCrossEntropyCase();

inline std::vector<OpCase> AllOpCases() {
  return {
      MakeGemmCase(),
      MakeGroupedGemmCase(),
      MakeAttentionCase(),
      MakeCrossEntropyCase(),
      MakeRmsNormCase(),
      MakeSwiGluCase(),
      MakeRopeCase(),
      MakeRouterCase(),
      MakePermuteCase(),
      MakeWeightGradCase(),
      MakePolicyLossCase(),
      MakeWeightedCrossEntropyCase(),
      MakeForwardDivergenceCase(),
      MakeReverseDivergenceCase(),
      MakeHeadGemmCase(),
  };
}

}  // namespace conclave::core::test
