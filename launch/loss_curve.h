// SPDX-License-Identifier: Apache-2.0
// A plot for terminals: columns of block characters, eight levels per line; of three levels where the locale has no
// blocks.
#pragma once

#include <span>
#include <string>

namespace conclave::launch {

enum class PlotCharacters { kBlocks, kAscii };

// Blocks if the locale of the environment writes UTF-8.
PlotCharacters PlotCharactersOfLocale();

// Each column is the mean of its share of `values`; values that are not finite are left out. Empty without two values.
std::string LossCurve(std::span<const double> values, int columns, int lines, PlotCharacters characters);

}  // namespace conclave::launch
