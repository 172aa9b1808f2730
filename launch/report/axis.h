// SPDX-License-Identifier: Apache-2.0
// Round numbers along an axis: 1, 2 or 5 times a power of ten apart.
#pragma once

#include <string>
#include <vector>

namespace conclave::launch {

struct Axis {
  double low = 0, high = 1;   // of what is drawn; low < high
  double step = 0.5;          // between ticks
  std::vector<double> ticks;  // multiples of step in [low, high]

  // 0 at low, 1 at high.
  double Share(double value) const { return (value - low) / (high - low); }
  // A tick with as many digits as tell it from its neighbours: "0.25", "150", "20k".
  std::string Text(double tick) const;
};

// From `low` to `high` as they are: of steps. Finite numbers; where they are equal there is room around them.
Axis ExactAxis(double low, double high, int most_ticks);
// The same, widened to the next ticks: of figures.
Axis RoundAxis(double low, double high, int most_ticks);

}  // namespace conclave::launch
