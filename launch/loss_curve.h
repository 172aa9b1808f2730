// SPDX-License-Identifier: Apache-2.0
// A plot for terminals: columns of block characters, eight levels per line.
#pragma once

#include <span>
#include <string>

namespace conclave::launch {

// Each column is the mean of its share of `values`; values that are not finite are left out. Empty without two values.
std::string LossCurve(std::span<const double> values, int columns, int lines);

}  // namespace conclave::launch
