// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors that several experts are written with.

#include "moue/lanes.hpp"
#include "moue/token_rows.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// m(i, j) += bias(0, j).
template <class C, class W>
struct add_bias {
  matrix_view<C> m;
  W bias;
  MOUE_HD void operator()(index_t i, index_t j) const { m(i, j) += static_cast<C>(bias.for_row(i)(0, j)); }
};

/// dgate[i] = <dy_i, bias>, or 0 without a bias.
template <class C, class T, class W>
struct gate_of_bias {
  token_rows<T, C> dy;
  W bias;
  vector_view<C> dgate;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    C sum = C(0);
    const auto b = bias.for_row(i);
    for (index_t j = lanes.first(); j < b.cols; j += lanes.step()) sum += dy(i, j) * static_cast<C>(b(0, j));
    sum = lanes.sum(sum);
    if (lanes.leads()) dgate[i] = sum;
  }
};

template <class C>
struct zero_gate {
  vector_view<C> dgate;
  MOUE_HD void operator()(index_t i) const { dgate[i] = C(0); }
};

/// out(i, :) = gate[i] m(i, :).
template <class C, class T>
struct scale_rows {
  token_rows<T, C> m;
  vector_view<const C> gate;
  matrix_view<C> out;
  MOUE_HD void operator()(index_t i, index_t j) const { out(i, j) = gate[i] * m(i, j); }
};

template <class C, class T>
struct copy_element {
  token_rows<T, C> from;
  matrix_view<C> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = from(i, j); }
};

template <class C, class T, class U>
struct row_dot {
  token_rows<T, C> a;
  token_rows<U, C> b;
  vector_view<C> out;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C sum = sum_columns(C(0), a.cols, lanes, [&](index_t j) { return a(i, j) * b(i, j); });
    if (lanes.leads()) out[i] = sum;
  }
};

template <class C, class W>
add_bias(matrix_view<C>, W) -> add_bias<C, W>;
template <class C, class T, class W>
gate_of_bias(token_rows<T, C>, W, vector_view<C>) -> gate_of_bias<C, T, W>;
template <class C, class T>
scale_rows(token_rows<T, C>, vector_view<const C>, matrix_view<C>) -> scale_rows<C, T>;
template <class C, class T>
copy_element(token_rows<T, C>, matrix_view<C>) -> copy_element<C, T>;
template <class C, class T, class U>
row_dot(token_rows<T, C>, token_rows<U, C>, vector_view<C>) -> row_dot<C, T, U>;

}  // namespace moue::inline v0_1::detail
