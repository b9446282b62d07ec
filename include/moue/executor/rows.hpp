// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of the executor: gates, combine, and their backward halves.

#include <cstdint>
#include <type_traits>

#include "moue/dispatch.hpp"
#include "moue/lanes.hpp"
#include "moue/routing.hpp"
#include "moue/token_rows.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// The entries of the rows of a block, whose first is row `first` of the plan.
template <class C>
struct block_entries {
  routing<C> entries;
  vector_view<const std::int32_t> row_token;
  vector_view<const index_t> row_entry;
  index_t first;
  template <class F>
  MOUE_HD void each(index_t row, const F& f) const {
    each_entry_of_row(entries, row_token[first + row], row_entry[first + row], f);
  }
};

/// The gate of each row: the sum of those of its entries.
template <class C>
struct gather_gate {
  block_entries<C> of;
  vector_view<C> out;
  MOUE_HD void operator()(index_t i) const {
    C sum = C(0);
    of.each(i, [&](index_t entry) { sum += of.entries.gate[entry]; });
    out[i] = sum;
  }
};

/// The gradient of a row's gate, to each of its entries.
template <class C>
struct scatter_gate {
  block_entries<C> of;
  vector_view<const C> rows;
  vector_view<C> dgate;
  MOUE_HD void operator()(index_t i) const {
    of.each(i, [&](index_t entry) { dgate[entry] = rows[i]; });
  }
};

template <class C>
struct clear_entry {
  vector_view<C> v;
  MOUE_HD void operator()(index_t i) const { v[i] = C(0); }
};

template <class C>
struct unit_entry {
  vector_view<C> v;
  MOUE_HD void operator()(index_t i) const { v[i] = C(1); }
};

/// No gradient of outputs but that of the sum of them.
struct no_extra {};

/// dgate = <dy, output>; scaled = gate dy, and what else there is for the output: rows from `first` on of `extra`.
template <class C, class T, class Extra = no_extra>
struct gate_from_output {
  matrix_view<const C> output;
  token_rows<T, C> dy;
  vector_view<const C> gate;
  vector_view<C> dgate;
  matrix_view<C> scaled;
  Extra extra = {};
  index_t first = 0;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C sum = sum_columns(C(0), scaled.cols, lanes, [&](index_t j) {
      const C d = dy(i, j);
      if constexpr (std::is_same_v<Extra, no_extra>)
        scaled(i, j) = d * gate[i];
      else
        scaled(i, j) = d * gate[i] + extra(first + i, j);
      return d * output(i, j);
    });
    if (lanes.leads()) dgate[i] = sum;
  }
};

/// Columns a combining functor holds in registers while it runs over a token's rows.
inline constexpr index_t combine_block = 32;

/// y(t, j) = sum over t's rows, ascending, of value(known(row), row, j): a lane looks a row up once for several columns.
template <class Lanes, class Y, class Known, class Value>
MOUE_HD void add_by_lanes(const dispatch_plan& plan, index_t t, const Lanes& lanes, const matrix_view<Y>& y,
                          const Known& known, const Value& value) {
  using C = decltype(value(known(0), index_t(0), index_t(0)));
  constexpr index_t own = 8;
  const index_t begin = plan.token_offsets[t], end = plan.token_offsets[t + 1];
  for (index_t j = lanes.first(); j < y.cols; j += own * lanes.step()) {
    C sum[own] = {};
    for (index_t i = begin; i < end; ++i) {
      const index_t row = plan.token_rows[i];
      const auto of_row = known(row);
      MOUE_UNROLL
      for (index_t l = 0; l < own; ++l)
        if (j + l * lanes.step() < y.cols) sum[l] += value(of_row, row, j + l * lanes.step());
    }
    MOUE_UNROLL
    for (index_t l = 0; l < own; ++l)
      if (j + l * lanes.step() < y.cols) y(t, j + l * lanes.step()) = static_cast<Y>(sum[l]);
  }
}

/// y(t, :) = sum over t's rows, ascending, of gate · row.
template <class C, class Y>
struct combine {
  dispatch_plan plan;
  vector_view<const C> gate;  // [rows]
  matrix_view<const C> rows;
  matrix_view<Y> y;
  MOUE_HD void operator()(index_t t) const {
    for (index_t j = 0; j < y.cols; j += combine_block) {
      const index_t width = y.cols - j < combine_block ? y.cols - j : combine_block;
      C sum[combine_block] = {};
      for (index_t i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i) {
        const index_t row = plan.token_rows[i];
        const C weight = gate[row];
        for (index_t l = 0; l < width; ++l) sum[l] += weight * rows(row, j + l);
      }
      for (index_t l = 0; l < width; ++l) y(t, j + l) = static_cast<Y>(sum[l]);
    }
  }
  template <class Lanes>
  MOUE_HD void operator()(index_t t, const Lanes& lanes) const {
    add_by_lanes(
        plan, t, lanes, y, [&](index_t row) { return gate[row]; },
        [&](C weight, index_t row, index_t j) { return weight * rows(row, j); });
  }
};

/// y(t, :) = sum over t's rows, ascending.
template <class C, class Y>
struct sum_rows {
  dispatch_plan plan;
  matrix_view<const C> rows;
  matrix_view<Y> y;
  MOUE_HD void operator()(index_t t) const {
    for (index_t j = 0; j < y.cols; j += combine_block) {
      const index_t width = y.cols - j < combine_block ? y.cols - j : combine_block;
      C sum[combine_block] = {};
      for (index_t i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i)
        for (index_t l = 0; l < width; ++l) sum[l] += rows(plan.token_rows[i], j + l);
      for (index_t l = 0; l < width; ++l) y(t, j + l) = static_cast<Y>(sum[l]);
    }
  }
  template <class Lanes>
  MOUE_HD void operator()(index_t t, const Lanes& lanes) const {
    add_by_lanes(
        plan, t, lanes, y, [](index_t) { return 0; }, [&](int, index_t row, index_t j) { return rows(row, j); });
  }
};

}  // namespace moue::inline v0_1::detail
