// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of a pass: a token's logits through the transform of a router, and back.

#include <cstddef>
#include <limits>
#include <type_traits>

#include "moue/lanes.hpp"
#include "moue/pass/rows.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/stages.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// Rows `t` of the matrices in which parameters' gradients are made token by token.
template <class C, std::size_t N>
MOUE_HD std::array<vector_view<C>, N> rows_of_all(const std::array<matrix_view<C>, N>& all, index_t t) {
  std::array<vector_view<C>, N> rows;
  for (std::size_t i = 0; i != N; ++i) rows[i] = all[i].row(t);
  return rows;
}
/// The same, with zeros in them.
template <class C, std::size_t N, class Lanes>
MOUE_HD auto clear_rows_of_all(const std::array<matrix_view<C>, N>& all, index_t t, const Lanes& lanes) {
  const auto rows = rows_of_all(all, t);
  for (const auto& row : rows)
    for (index_t j = lanes.first(); j < row.size; j += lanes.step()) row[j] = C(0);
  return rows;
}

/// What all but the score see of its logits. What is closed stays closed, and what is broken stays broken, or is closed if
/// it is masked.
template <class C, class RouterT, class P>
struct transform_row {
  RouterT router;
  P parameters;
  row_contexts contexts;  // whose `valid` are the rows that this layer looks at
  matrix_view<C> raw;
  matrix_view<const C> extra;
  matrix_view<C> logits;

  index_t columns() const { return raw.cols; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const auto from = raw.row(t);
    const auto to = logits.row(t);
    const bool masking = router.on_non_finite == non_finite::mask;
    if (contexts.batch.valid[t] == 0) {
      for (index_t j = lanes.first(); j < to.size; j += lanes.step()) {
        if (masking) from[j] = minus_infinity<C>();  // backward may come here: the row may be broken, and no padding
        to[j] = from[j];
      }
      return;
    }
    if (masking) {
      for (index_t j = lanes.first(); j < from.size; j += lanes.step())
        if (!is_finite(from[j])) from[j] = minus_infinity<C>();
      lanes.wait();
    }
    run(t, from, to, lanes);
    if (masking && close_broken(from, to, lanes) > 0) {  // without them the others may be others
      run(t, from, to, lanes);
      close_broken(from, to, lanes);
    }
    for (index_t j = lanes.first(); j < to.size; j += lanes.step())
      if (!is_finite(from[j])) to[j] = shut(from[j], masking) ? from[j] : std::numeric_limits<C>::quiet_NaN();
  }

 private:
  template <class Lanes>
  MOUE_HD void run(index_t t, const vector_view<C>& from, const vector_view<C>& to, const Lanes& lanes) const {
    using transform_type = decltype(RouterT::transform);
    call_stage(call_operator{}, contexts.of(t), lanes, router.transform, vector_view<const C>(from),
               extra_for<transform_type>(extra.row(t)), parameters_for<transform_type>(parameters.transform), to);
    lanes.wait();
  }
  /// Closes the columns whose transformed logit is broken; returns how many there were.
  template <class Lanes>
  MOUE_HD static index_t close_broken(const vector_view<C>& from, const vector_view<C>& to, const Lanes& lanes) {
    index_t count = 0;
    for (index_t j = lanes.first(); j < to.size; j += lanes.step())
      if (is_finite(from[j]) && !is_finite(to[j])) {
        from[j] = minus_infinity<C>();
        ++count;
      }
    return lanes.sum(count);
  }
  MOUE_HD static bool shut(C logit, bool masking) {
    return (masking || router_stages<RouterT>::score_closes) && logit == minus_infinity<C>();
  }
};

/// From the gradients of what others saw to those of what the score made.
template <class C, class RouterT, class P>
struct transform_backward_row {
  RouterT router;
  P parameters;
  row_contexts contexts;
  matrix_view<const C> raw;
  matrix_view<const C> extra;
  matrix_view<const C> logits;
  matrix_view<const C> dtransformed;
  bool adds;  // whether state has a gradient of the score's logits already
  matrix_view<C> dlogits;
  matrix_view<C> dextra;
  std::array<matrix_view<C>, stage_parameter_count<decltype(RouterT::transform)>> dparameters;

  index_t columns() const { return raw.cols; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const auto dz = dlogits.row(t);
    const auto dp = clear_rows_of_all(dparameters, t, lanes);
    const bool valid = contexts.batch.valid[t] != 0;
    if (!valid || !adds)
      for (index_t j = lanes.first(); j < dz.size; j += lanes.step()) dz[j] = C(0);
    if (!valid) return;
    lanes.wait();
    using transform_type = decltype(RouterT::transform);
    const auto from = raw.row(t);
    call_stage(call_backward{}, contexts.of(t), lanes, router.transform, from, extra_for<transform_type>(extra.row(t)),
               parameters_for<transform_type>(parameters.transform), logits.row(t), dtransformed.row(t), dz,
               extra_for<transform_type>(dextra.row(t)), parameters_for<transform_type>(dp));
    lanes.wait();
    for (index_t j = lanes.first(); j < dz.size; j += lanes.step())
      if (from[j] == minus_infinity<C>()) dz[j] = C(0);
  }
};

}  // namespace moue::inline v0_1::detail
