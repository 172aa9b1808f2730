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

// What each row hides: an exchange that the other side has begun. Rows of choices, the largest messages, have the
// longest compute to hide behind.
constexpr Row kTurns[] = {
    {Turn::kBackward, Phase::kCombine},    // gradients leave ...
    {Turn::kForward, Phase::kAttention},   // ... behind attention; counts leave
    {Turn::kBackward, Phase::kExperts},    // counts arrive; input gradients of choices leave
    {Turn::kForward, Phase::kDispatch},    // tokens leave ...
    {Turn::kWeights},                      // ... behind the experts' weight gradients
    {Turn::kForward, Phase::kExperts},     // input gradients arrive behind the experts; rows of choices leave
    {Turn::kBackward, Phase::kDispatch},   // input gradients are home
    {Turn::kBackward, Phase::kAttention},  // rows arrive behind attention's backward
    {Turn::kWeightsEnd},                   // ... and its weight gradients
    {Turn::kForward, Phase::kCombine},
};

constexpr const char* kForwardNames[] = {"F attention", "F dispatch", "F experts", "F combine"};  // by phase
constexpr const char* kBackwardNames[] = {"B attention", "B dispatch", "B experts", "B combine"};

void RunPhase(const ForwardWork& forward, int64_t block, Phase phase, core::Trace* trace) {
  const core::TraceAt at(trace, forward.place);
  const core::TraceScope scope(trace, "phase", kForwardNames[static_cast<size_t>(phase)]);
  forward.stage.ForwardPhase(block, phase, forward.lane, forward.pass, forward.statistics, nullptr, forward.saved);
}

void RunTurn(const BackwardWork& backward, int64_t block, const Row& row, core::Trace* trace) {
  const core::TraceAt at(trace, backward.place);
  const bool is_phase = row.turn == Turn::kBackward;
  const bool does_nothing = !is_phase && backward.pass.mode != core::PassMode::kTrainImmediate;
  const core::TraceScope scope(does_nothing ? nullptr : trace, "phase",
                               is_phase ? kBackwardNames[static_cast<size_t>(row.phase)] : "W");
  if (is_phase) {
    backward.stage.BackwardPhase(block, row.phase, backward.lane, backward.pass, backward.weights, backward.saved);
  } else if (row.turn == Turn::kWeights) {
    backward.stage.DrainImmediate(backward.lane, backward.pass);
  } else {
    backward.stage.EndBlock(backward.lane, backward.pass, backward.saved);
  }
}

}  // namespace

void RunForward(const ForwardWork& forward, core::Trace* trace) {
  for (int64_t i = 0; i < forward.stage.num_blocks(); ++i) {
    for (const Phase phase : core::kForwardPhases) RunPhase(forward, i, phase, trace);
  }
}

void RunBackward(const BackwardWork& backward, core::Trace* trace) {
  for (int64_t i = backward.stage.num_blocks() - 1; i >= 0; --i) {
    for (const Phase phase : core::kBackwardPhases) RunTurn(backward, i, {Turn::kBackward, phase}, trace);
    RunTurn(backward, i, {Turn::kWeightsEnd}, trace);
  }
}

void RunOverlapped(const ForwardWork& forward, const BackwardWork& backward, core::Trace* trace) {
  const int64_t forwards = forward.stage.num_blocks(), backwards = backward.stage.num_blocks();
  for (int64_t i = 0; i < std::max(forwards, backwards); ++i) {
    const int64_t up = i, down = backwards - 1 - i;
    for (const Row& row : kTurns) {
      if (row.turn == Turn::kForward) {
        if (up < forwards) RunPhase(forward, up, row.phase, trace);
      } else if (down >= 0) {
        RunTurn(backward, down, row, trace);
      }
    }
  }
}

}  // namespace conclave::parallel
