// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products in their simplest form, a thread per element of the result.

#include "moue/backend/cuda/runtime.cuh"
#include "moue/backend/cuda/segments.cuh"
#include "moue/operations.hpp"

namespace moue::detail::gpu {

/// The group a row belongs to, or -1 where it belongs to none or to one that takes no part.
MOUE_HD inline index group_of(const segments& s, index row) {
  index group = 0;
  if (s.offsets != nullptr) {
    if (row >= s.offsets[s.groups]) return -1;
    index last = s.groups;
    while (last - group > 1) {
      const index middle = (group + last) / 2;
      (s.offsets[middle] <= row ? group : last) = middle;
    }
  }
  return s.kinds == nullptr || s.kinds[group] == s.kind ? group : -1;
}

template <class C, class S>
struct linear_element {
  segments rows;
  matrix_view<const C> x;
  weight_table<const S> w;
  matrix_view<C> y;
  write mode;
  MOUE_HD void operator()(index at) const {
    const index i = at / y.cols, j = at % y.cols, group = group_of(rows, i);
    if (group < 0) return;
    const S* const weights = w.of(group) + j * w.stride;
    C sum = mode == write::add ? y(i, j) : C(0);
    for (index l = 0; l < x.cols; ++l) sum += x(i, l) * static_cast<C>(weights[l]);
    y(i, j) = sum;
  }
};

template <class C, class S>
struct input_gradient_element {
  segments rows;
  matrix_view<const C> dy;
  weight_table<const S> w;
  matrix_view<C> dx;
  write mode;
  MOUE_HD void operator()(index at) const {
    const index i = at / dx.cols, j = at % dx.cols, group = group_of(rows, i);
    if (group < 0) return;
    const S* const weights = w.of(group) + j;
    C sum = mode == write::add ? dx(i, j) : C(0);
    for (index l = 0; l < dy.cols; ++l) sum += dy(i, l) * static_cast<C>(weights[l * w.stride]);
    dx(i, j) = sum;
  }
};

/// One element of dw_e += dy_eᵀ x_e; with `Ones` in place of dy, of sums of columns.
template <class C, bool Ones>
struct weight_gradient_element {
  segments rows;
  matrix_view<const C> dy;
  matrix_view<const C> x;
  weight_table<C> dw;
  MOUE_HD void operator()(index at) const {
    const index j = at % dw.cols, i = at / dw.cols % dw.rows, group = at / (dw.cols * dw.rows);
    if (rows.kinds != nullptr && rows.kinds[group] != rows.kind) return;
    const index first = rows.offsets == nullptr ? 0 : rows.offsets[group];
    const index last = rows.offsets == nullptr ? rows.capacity : rows.offsets[group + 1];
    if (first == last) return;
    C& out = dw.of(group)[i * dw.stride + j];
    C sum = out;
    for (index t = first; t < last; ++t) sum += Ones ? x(t, j) : dy(t, i) * x(t, j);
    out = sum;
  }
};

template <class RuntimeT, class C, class W>
void linear(const RuntimeT& runtime, const segments& rows, matrix_view<const C> x, const W& w, matrix_view<C> y,
            write mode) {
  for_each(runtime, rows.capacity * y.cols, linear_element<C, typename W::value_type>{rows, x, table_of(w), y, mode});
}
template <class RuntimeT, class C, class W>
void input_gradient(const RuntimeT& runtime, const segments& rows, matrix_view<const C> dy, const W& w,
                    matrix_view<C> dx, write mode) {
  for_each(runtime, rows.capacity * dx.cols,
           input_gradient_element<C, typename W::value_type>{rows, dy, table_of(w), dx, mode});
}
template <class RuntimeT, class C, class DW>
void weight_gradient(const RuntimeT& runtime, const segments& rows, matrix_view<const C> dy, matrix_view<const C> x,
                     const DW& dw) {
  for_each(runtime, rows.groups * dw.rows * dw.cols, weight_gradient_element<C, false>{rows, dy, x, table_of(dw)});
}
template <class RuntimeT, class C, class Out>
void column_sum(const RuntimeT& runtime, const segments& rows, matrix_view<const C> x, const Out& out) {
  for_each(runtime, rows.groups * x.cols, weight_gradient_element<C, true>{rows, {}, x, table_of(out)});
}

}  // namespace moue::detail::gpu
