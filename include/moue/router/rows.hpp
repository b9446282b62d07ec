// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors that several score stages are written with.

#include <cstdint>

#include "moue/gradients/targets.hpp"
#include "moue/lanes.hpp"
#include "moue/store.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

template <class C>
struct clear_element {
  matrix_view<C> m;
  MOUE_HD void operator()(index_t i, index_t j) const { m(i, j) = C(0); }
};

/// out(column, :) = table(candidate[column], :).
template <class C, class W>
struct gather_rows {
  W table;
  vector_view<const std::int32_t> candidates;
  matrix_view<C> out;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < out.cols; j += lanes.step())
      out(column, j) = static_cast<C>(table(candidates[column], j));
  }
};

/// table(candidate[column], :) += in(column, :). Candidates of a layer are distinct, so columns never meet.
template <class C>
struct scatter_add_rows {
  matrix_view<const C> in;
  vector_view<const std::int32_t> candidates;
  matrix_view<C> table;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < in.cols; j += lanes.step()) table(candidates[column], j) += in(column, j);
  }
};

/// The same for a target: its rows of `candidates` += dyᵀ x, by way of `scratch` [candidates, cols]. Nothing happens if
/// nobody wants it.
template <class C>
void scatter_weight_gradient(const auto& ops, const auto& dy, const auto& x, const matrix_view<C>& scratch,
                             vector_view<const std::int32_t> candidates, const auto& target) {
  if (target.empty()) return;
  ops.weight_gradient(dy, x, scratch, store::assign);
  ops.each_row(scratch.rows, scatter_add_rows<C>{scratch, candidates, accumulate(ops, target)});
}

template <class C, class W>
gather_rows(W, vector_view<const std::int32_t>, matrix_view<C>) -> gather_rows<C, W>;

}  // namespace moue::inline v0_1::detail
