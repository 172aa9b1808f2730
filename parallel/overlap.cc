// SPDX-License-Identifier: Apache-2.0
#include "parallel/overlap.h"

#include <algorithm>

namespace conclave::parallel {

using core::Phase;

namespace {

enum class Turn {
  kForward,    // a phase of the forward
  kBackward,   // a phase of the backward
  kWeights,    // the backward's weight gradients so far, where the action includes them
  kWeightsEnd  // the rest of them; the block is done
};

struct Row {
  Turn turn;
  Phase phase = Phase::kAttention;
};

// What each row hides: an exchange that the other side has begun.
constexpr Row kTurns[] = {
    {Turn::kBackward, Phase::kCombine},    // gradients leave ...
    {Turn::kForward, Phase::kAttention},   // ... behind attention; counts leave
    {Turn::kBackward, Phase::kExperts},    // counts arrive; input gradients of experts leave
    {Turn::kForward, Phase::kDispatch},    // tokens leave ...
    {Turn::kWeights},                      // ... both behind the experts' weight gradients
    {Turn::kBackward, Phase::kDispatch},   // input gradients are home
    {Turn::kBackward, Phase::kAttention},  // tokens arrive behind attention's backward
    {Turn::kForward, Phase::kExperts},     // rows leave ...
    {Turn::kWeightsEnd},                   // ... behind attention's weight gradients
    {Turn::kForward, Phase::kCombine},
};

}  // namespace

void RunOverlapped(const OverlapSide& forward, const core::StepStatistics& statistics, const OverlapSide& backward,
                   const core::LossWeights& weights) {
  const int64_t forwards = forward.stage.num_blocks(), backwards = backward.stage.num_blocks();
  for (int64_t i = 0; i < std::max(forwards, backwards); ++i) {
    const int64_t up = i, down = backwards - 1 - i;
    for (const Row& row : kTurns) {
      if (row.turn == Turn::kForward) {
        if (up >= forwards) continue;
        forward.stage.ForwardPhase(up, row.phase, forward.lane, forward.pass, statistics, nullptr, forward.saved);
      } else if (down >= 0) {
        const core::Stage& stage = backward.stage;
        if (row.turn == Turn::kBackward) {
          stage.BackwardPhase(down, row.phase, backward.lane, backward.pass, weights, backward.saved);
        } else if (row.turn == Turn::kWeights) {
          stage.DrainImmediate(backward.lane, backward.pass);
        } else {
          stage.EndBlock(backward.lane, backward.pass, backward.saved);
        }
      }
    }
  }
}

}  // namespace conclave::parallel
