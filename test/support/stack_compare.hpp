// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Definitions of the comparisons in stack.hpp.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "stack.hpp"

namespace test {

template <class A, class B>
double distance(const A& a, const B& b, double least) {
  if (std::size(a) != std::size(b)) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = least;
  for (std::size_t i = 0; i < std::size(b); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

template <class C>
std::vector<C> to_vector(const moue::matrix_view<const C>& m) {
  std::vector<C> result;
  for (moue::index_t i = 0; i < m.rows; ++i) result.insert(result.end(), m.row(i).begin(), m.row(i).end());
  return result;
}

template <class C>
bool same_bits(const std::vector<C>& a, const std::vector<C>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(C)) == 0);
}

template <class C>
bool same_bits(const moue::gradients<C>& a, const moue::gradients<C>& b) {
  for (moue::index_t i = 0; i < a.layout().tensors(); ++i)
    if (!same_bits(to_vector(a[i]), to_vector(b[i]))) return false;
  return a.layout().same_shapes(b.layout());
}

}  // namespace test
