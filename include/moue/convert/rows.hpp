// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The router row by which a layer first scores a foreign candidate.

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>

#include "moue/parameter.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::convert {

/// What a foreign row may be made from.
template <class C>
struct row_source {
  matrix_view<const C> own;  ///< [home, width] rows by which the layer scores its own candidates
  vector_view<const C> kin;  ///< [width] the row by which the candidate's home layer scores it
};

/// Writes one foreign row: `void operator()(const row_source<C>&, vector_view<C> row) const`, where `row` [width] comes
/// in as the layout initialises it.
template <class P, class C = double>
concept RowPolicy = std::copyable<P> && requires(const P fill, const row_source<C>& source, vector_view<C> row) {
  fill(source, row);
};

/// The layout's random row.
struct fresh_rows {
  template <class C>
  void operator()(const row_source<C>&, vector_view<C>) const {}
};

/// 0: opened with bias 0, the candidate has logit 0 for every token.
struct zero_rows {
  template <class C>
  void operator()(const row_source<C>&, vector_view<C> row) const {
    for (auto& w : row) w = C(0);
  }
};

/// `scale` times the mean of the layer's own rows: all foreign candidates of a layer start with the same logit.
struct mean_row {
  double scale = 1;  ///< of the mean

  template <class C>
  void operator()(const row_source<C>& source, vector_view<C> row) const {
    for (index_t j = 0; j < row.size; ++j) {
      C sum = C(0);
      for (index_t i = 0; i < source.own.rows; ++i) sum += source.own(i, j);
      row[j] = C(scale) * sum / C(source.own.rows > 0 ? source.own.rows : 1);
    }
  }
};

/// `scale` times the row by which the candidate's home layer scores it: chosen for the inputs it is used to.
struct home_row {
  double scale = 1;  ///< of the row

  template <class C>
  void operator()(const row_source<C>& source, vector_view<C> row) const {
    for (index_t j = 0; j < row.size; ++j) row[j] = C(scale) * source.kin[j];
  }
};

/// The rows [foreign candidates, width] that a converted mixture's `initialize(seed)` gives layer `layer`, for those who
/// write weights layer by layer without the whole model. `deviation` as in `extended_score`.
template <Storage S>
void draw_rows(index_t layer, std::uint64_t seed, matrix_view<S> rows, double deviation = 0.02) {
  auto layout = std::make_shared<parameter_layout>();
  layout->add("layers." + std::to_string(layer) + ".router.foreign",
              {"foreign", rows.rows, rows.cols, initializer::normal(deviation)}, layer, -1);
  parameters<S> drawn(layout);
  initialize(drawn, seed);
  for (index_t i = 0; i < rows.rows; ++i) std::ranges::copy(drawn[index_t{0}].row(i), rows.row(i).begin());
}

}  // namespace moue::inline v0_1::convert
