// SPDX-License-Identifier: Apache-2.0
// What a pipeline rank does, as data. An action is a verb on one micro-batch at one stage; a cell is one action, or a
// forward and a backward that run phase by phase, the exchange of one behind the compute of the other; a schedule is a
// list of cells per rank. Text form of an action: "2F0" = forward of micro-batch 0 at stage 2; of a cell: "2F4&5B1".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace conclave::parallel {

enum class Verb : uint8_t {
  kForward,         // F
  kBackward,        // B: gradients of inputs and of weights
  kBackwardInput,   // I: gradients of inputs; weight gradients stay as tasks
  kBackwardWeight,  // W: the tasks
};

struct Action {
  Verb verb = Verb::kForward;
  int stage = 0;
  int micro = 0;
  bool operator==(const Action&) const = default;
};

struct Cell {
  Action first;
  std::optional<Action> second;  // overlapped with the first: `first` is a forward, `second` a backward
  bool operator==(const Cell&) const = default;
};

// Where stages are. A schedule may hold two copies of each stage (DualPipe): then it depends on the micro-batch, too.
enum class Placement : uint8_t {
  kLoop,    // stage s on rank s % ranks (1F1B, interleaved, ZB-H1)
  kV,       // stages 0 .. ranks - 1 down, ranks .. 2 ranks - 1 up again: rank 0 has the first and the last
  kMirror,  // two copies: micro-batches 0 .. num_micro / 2 - 1 enter at rank 0, the others at the last rank
};

enum class Purpose : uint8_t {
  kTraining,    // forward and backward
  kValidation,  // forward alone
};

struct Schedule {
  std::string name;
  int num_ranks = 1, num_stages = 1, num_micro = 1;
  Placement placement = Placement::kLoop;
  Purpose purpose = Purpose::kTraining;
  std::vector<std::vector<Cell>> cells;  // by pipeline rank

  int RankOf(int stage, int micro) const;
  // Ranks that hold a copy of the stage, ascending.
  std::vector<int> HoldersOf(int stage) const;
  // Stages of a rank, ascending.
  std::vector<int> StagesOf(int rank) const;
  bool operator==(const Schedule&) const = default;
};

// The actions of a cell in the order in which they begin.
template <class Visit>  // void(const Action&)
void ForEachAction(const Cell& cell, Visit&& visit) {
  visit(cell.first);
  if (cell.second.has_value()) visit(*cell.second);
}

}  // namespace conclave::parallel
