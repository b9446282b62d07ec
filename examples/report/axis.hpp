// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include "svg.hpp"

namespace report {

/// Round positions (1, 2 or 5 times a power of ten apart) that cover [low, high], and their labels.
struct axis {
  double low = 0;
  double high = 1;
  double step = 1;

  /// About `count` steps; the ends move outwards to round positions.
  static axis around(double low, double high, int count) {
    if (!(low <= high)) return {0, 1, 0.5};
    if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high)) || high == low) {
      const double margin = low == 0 ? 1 : 0.1 * std::abs(low);
      low -= margin;
      high += margin;
    }
    const double rough = (high - low) / count;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    const double digit = rough / power;
    const double step = (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
    return {std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step, step};
  }

  std::vector<double> ticks() const {
    std::vector<double> out;
    const auto first = std::llround(low / step), last = std::llround(high / step);
    for (auto i = first; i <= last; ++i) out.push_back(static_cast<double>(i) * step);
    return out;
  }

  std::string label(double value) const {
    const double largest = std::max(std::abs(low), std::abs(high));
    if (largest >= 1e7 || largest < 1e-3) {
      std::array<char, 40> text;
      // Enough digits to tell neighbouring ticks apart.
      const auto exponent = [](double x) { return static_cast<int>(std::floor(std::log10(x) + 1e-9)); };
      const int digits = std::max(0, exponent(largest) - exponent(step));
      const double clean = std::abs(value) < 1e-9 * step ? 0.0 : value;
      const auto end = std::to_chars(text.data(), text.data() + text.size(), clean, std::chars_format::scientific,
                                     std::min(digits, 8));
      return clean == 0 ? "0" : std::string(text.data(), end.ptr);
    }
    std::string text = fixed(value, std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))));
    for (auto at = static_cast<int>(text.size()) - 3; step >= 1 && largest >= 1e4 && at > (value < 0 ? 1 : 0); at -= 3)
      text.insert(static_cast<std::size_t>(at), ",");
    return text;
  }

  /// Where `value` lies, from 0 at `low` to 1 at `high`.
  double place(double value) const { return (value - low) / (high - low); }
};

}  // namespace report
