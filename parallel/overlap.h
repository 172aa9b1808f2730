// SPDX-License-Identifier: Apache-2.0
// A forward of one micro-batch and a backward of another take turns, phase by phase, so that each exchange of tokens
// runs behind compute of the other (DeepSeek-V3 report, section 3.2.1). The turns of a pair of blocks are a constant
// table.
#pragma once

#include "core/model/stage.h"

namespace conclave::parallel {

// One of the two: where it runs and what it works on. Begin... has been called, End... comes after.
struct OverlapSide {
  const core::Stage& stage;
  core::Lane& lane;
  core::StagePass& pass;
  core::StageSaved& saved;
};

// All blocks of both. Where one stage has more blocks than the other, the rest runs alone.
void RunOverlapped(const OverlapSide& forward, const core::StepStatistics& statistics, const OverlapSide& backward,
                   const core::LossWeights& weights);

}  // namespace conclave::parallel
