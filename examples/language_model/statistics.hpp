// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The little statistics that a paired comparison needs.

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace language_model {

inline double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// 97.5 % point of Student's t distribution.
inline double student_t(std::size_t degrees_of_freedom) {
  constexpr std::array points{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                              2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
  if (degrees_of_freedom <= points.size()) return points[degrees_of_freedom - 1];
  const double n = static_cast<double>(degrees_of_freedom);
  return 1.96 + 2.3722 / n + 2.82 / (n * n);  // expansion in 1/n, right to three decimals from here on
}

/// Differences of pairs, their mean, and half the width of its 95 % interval (NaN for a single pair).
struct paired_difference {
  std::vector<double> pairs;
  double mean = 0;
  double half_width = std::numeric_limits<double>::quiet_NaN();

  paired_difference(const std::vector<double>& a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) pairs.push_back(a[i] - b[i]);
    mean = mean_of(pairs);
    if (pairs.size() < 2) return;
    double squares = 0;
    for (const double d : pairs) squares += (d - mean) * (d - mean);
    const auto n = static_cast<double>(pairs.size());
    half_width = student_t(pairs.size() - 1) * std::sqrt(squares / (n - 1) / n);
  }
};

}  // namespace language_model
