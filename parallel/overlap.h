// SPDX-License-Identifier: Apache-2.0
// The blocks of a stage, phase by phase: of a forward or a backward alone, or of both in turns, so that each exchange
// of tokens of one runs behind compute of the other (DeepSeek-V3 report, section 3.2.1). The turns of a pair of blocks
// are a constant table.
#pragma once

#include "core/base/trace.h"
#include "core/model/stage.h"

namespace conclave::parallel {

// A micro-batch at a stage: where it runs and what it works on. Begin... of the stage has been called, End... comes
// after.
struct StageWork {
  const core::Stage& stage;
  core::Lane& lane;
  core::StagePass& pass;
  core::StageSaved& saved;
  core::TracePlace place;
};

struct ForwardWork : StageWork {
  core::StepStatistics statistics;
};
struct BackwardWork : StageWork {
  const core::LossWeights& weights;
};

// `trace` records the phases, if it is not null.
void RunForward(const ForwardWork& forward, core::Trace* trace);
void RunBackward(const BackwardWork& backward, core::Trace* trace);
// All blocks of both. Where one stage has more blocks than the other, the rest runs alone.
void RunOverlapped(const ForwardWork& forward, const BackwardWork& backward, core::Trace* trace);

}  // namespace conclave::parallel
