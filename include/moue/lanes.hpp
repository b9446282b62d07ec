// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Lanes: the threads that share one row of a row functor.

#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// One thread with a row to itself. A row functor that may be called as f(row, lanes) as well as f(row) is run by several
/// threads where a backend has them: each takes the columns from `first()` on, `step()` apart. Sums over columns go through
/// `sum`, which every lane must call and which gives all of them the same, and what belongs to the row as a whole is read
/// before that and written after it by the lane that `leads()`. What one lane wrote to memory others may read after
/// `wait`, which every lane must call as well. A functor that says how many columns its rows have, `index_t columns() const`,
/// gets a number of lanes that suits them.
struct one_lane {
  /// The first position that this lane takes.
  MOUE_HD static constexpr index_t first() { return 0; }
  /// From one of its positions to the next: the number of lanes.
  MOUE_HD static constexpr index_t step() { return 1; }
  /// Whether this is the lane that writes what belongs to all.
  MOUE_HD static constexpr bool leads() { return true; }
  /// Waits until all lanes are here and see what each other wrote.
  MOUE_HD static constexpr void wait() {}
  /// The sum of what the lanes bring, which all of them get.
  template <class C>
  MOUE_HD static constexpr C sum(C part) {
    return part;
  }
  /// The part that comes first among those of all lanes, by `before(a, b)`, a total order.
  template <class T, class Before>
  MOUE_HD static constexpr T first_of(T part, const Before&) {
    return part;
  }
};

namespace detail {

template <class C>
struct larger {
  MOUE_HD constexpr bool operator()(C a, C b) const { return a > b; }
};

/// The largest number of a row, by all its lanes; minus infinity if there is none but NaN.
template <class C, class Lanes>
MOUE_HD C largest(vector_view<const C> row, const Lanes& lanes) {
  C most = minus_infinity<C>();
  for (index_t j = lanes.first(); j < row.size; j += lanes.step()) most = row[j] > most ? row[j] : most;
  return lanes.first_of(most, larger<C>());
}

/// `start` + the sum of term(j) over the columns of a row, by all its lanes.
template <class C, class Lanes, class Term>
[[gnu::always_inline]] MOUE_HD inline C sum_columns(C start, index_t cols, const Lanes& lanes, const Term& term) {
  C sum = lanes.leads() ? start : C(0);
  for (index_t j = lanes.first(); j < cols; j += lanes.step()) sum += term(j);
  return lanes.sum(sum);
}

}  // namespace detail

}  // namespace moue::inline v0_1
