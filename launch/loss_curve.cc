// SPDX-License-Identifier: Apache-2.0
#include "launch/loss_curve.h"

#include <langinfo.h>
#include <locale.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

// By eighths of a line that a column fills.
constexpr const char* kAscii[] = {" ", ".", ".", ".", ":", ":", ":", "#", "#"};
constexpr const char* kBlocks[] = {" ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};

// NaN where a share holds no finite value.
std::vector<double> ColumnMeans(std::span<const double> values, int columns) {
  const size_t count = std::min<size_t>(static_cast<size_t>(columns), values.size());
  std::vector<double> means;
  for (size_t column = 0; column < count; ++column) {
    double sum = 0;
    int terms = 0;
    for (size_t i = column * values.size() / count; i < (column + 1) * values.size() / count; ++i) {
      if (!std::isfinite(values[i])) continue;
      sum += values[i];
      ++terms;
    }
    means.push_back(terms > 0 ? sum / terms : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

}  // namespace

PlotCharacters PlotCharactersOfLocale() {
  const locale_t locale = ::newlocale(LC_CTYPE_MASK, "", nullptr);  // of this question only: the program's stays "C"
  if (locale == nullptr) return PlotCharacters::kAscii;
  const bool utf8 = std::string_view(::nl_langinfo_l(CODESET, locale)) == "UTF-8";
  ::freelocale(locale);
  return utf8 ? PlotCharacters::kBlocks : PlotCharacters::kAscii;
}

std::string LossCurve(std::span<const double> values, int columns, int lines, PlotCharacters characters) {
  const std::vector<double> means = ColumnMeans(values, columns);
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double mean : means) {
    if (!std::isfinite(mean)) continue;
    low = std::min(low, mean);
    high = std::max(high, mean);
  }
  if (means.size() < 2 || !(high >= low)) return "";
  const auto& levels = characters == PlotCharacters::kBlocks ? kBlocks : kAscii;
  std::string text;
  for (int line = lines - 1; line >= 0; --line) {
    const bool top = line == lines - 1;
    text += top ? absl::StrFormat("%8.3f ", high) : line == 0 ? absl::StrFormat("%8.3f ", low) : std::string(9, ' ');
    for (const double mean : means) {
      // At least one eighth, so that the lowest point is still seen.
      const double height = high > low ? (mean - low) / (high - low) : 0;
      const int eighths = std::isfinite(mean) ? 1 + static_cast<int>(height * (8 * lines - 1)) : 0;
      text += levels[std::clamp(eighths - 8 * line, 0, 8)];
    }
    text += "\n";
  }
  return text;
}

}  // namespace conclave::launch
