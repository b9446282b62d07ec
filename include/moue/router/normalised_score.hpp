// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row-normalised logits, with or without a key shared by all layers that reach an expert.

#include <array>
#include <cmath>

#include "moue/router.hpp"
#include "moue/router/rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

inline constexpr double norm_epsilon = 1e-12;

/// The un-normalised row of one column: the layer's own weights, plus the expert's shared key if there is one.
template <bool SharedKey, class C, class W>
struct column_row {
  W weight;
  W key;
  vector_view<const std::int32_t> candidates;
  MOUE_HD C operator()(index_t column, index_t j) const {
    C w = static_cast<C>(weight(column, j));
    if constexpr (SharedKey) w += static_cast<C>(key(candidates[column], j));
    return w;
  }
  template <class Lanes>
  MOUE_HD C inverse_norm(index_t column, const Lanes& lanes) const {
    using std::sqrt;
    C sum = lanes.leads() ? C(norm_epsilon) : C(0);
    for (index_t j = lanes.first(); j < weight.cols; j += lanes.step()) sum += (*this)(column, j) * (*this)(column, j);
    return C(1) / sqrt(lanes.sum(sum));
  }
};

/// scaled(column, :) = temperature * row / norm.
template <bool SharedKey, class C, class W>
struct normalise_column {
  column_row<SharedKey, C, W> row;
  W temperature;
  matrix_view<C> scaled;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    const C factor = static_cast<C>(temperature(0, 0)) * row.inverse_norm(column, lanes);
    for (index_t j = lanes.first(); j < scaled.cols; j += lanes.step()) scaled(column, j) = factor * row(column, j);
  }
};

/// From a(column, :) = sum_t dz u: the column's part of the temperature's gradient into `part`, and the gradient of the
/// un-normalised row added to the weights' (and the key's) gradient, where that is not empty.
template <bool SharedKey, class C, class W>
struct normalise_column_backward {
  column_row<SharedKey, C, W> row;
  W temperature;
  matrix_view<const C> a;
  matrix_view<C> part;
  matrix_view<C> dweight;
  matrix_view<C> dkey;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    const C inverse = row.inverse_norm(column, lanes);
    C along = C(0);
    for (index_t j = lanes.first(); j < a.cols; j += lanes.step()) along += a(column, j) * row(column, j) * inverse;
    along = lanes.sum(along);
    if (lanes.leads()) part(column, 0) = along;
    const C factor = static_cast<C>(temperature(0, 0)) * inverse;
    for (index_t j = lanes.first(); j < a.cols; j += lanes.step()) {
      const C d = factor * (a(column, j) - along * inverse * row(column, j));
      if (!dweight.empty()) dweight(column, j) += d;
      if constexpr (SharedKey)
        if (!dkey.empty()) dkey(row.candidates[column], j) += d;
    }
  }
};

}  // namespace detail

/// z_e = tau_l u · w / sqrt(|w|² + 1e-12), with w = w_{l,e}, plus the expert's shared key K_e if `SharedKey`. The
/// temperature tau_l is learned and starts at 1: logits near scale 1 at the start matter more than the form (docs/method.md).
/// Parameters: `weight` [candidates, width] and `temperature` [1, 1] per layer, `shared_key` [experts, width] per model.
template <bool SharedKey>
struct basic_normalised_score {
  double deviation = 0.02;       ///< of the initial per-layer weights
  double key_deviation = 0.125;  ///< of the initial shared keys

  auto parameters(router_shape s) const {
    const parameter_spec weight{"weight",     s.candidates, s.width, initializer::normal(deviation),
                                scope::layer, true,         true};
    const parameter_spec temperature{"temperature", 1, 1, initializer::constant(1), scope::layer};
    if constexpr (SharedKey)
      return std::array{weight, temperature,
                        parameter_spec{"shared_key", s.experts, s.width, initializer::normal(key_deviation),
                                       scope::model, true, true}};
    else
      return std::array{weight, temperature};
  }
  auto temporaries(router_shape s) const {
    return std::array{matrix_shape{s.candidates, s.width}, matrix_shape{s.candidates, s.width},
                      matrix_shape{s.candidates, 1}};
  }

  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    const auto row = column_row<C>(frame, p);
    ops.each_row(temporary[0].rows,
                 detail::normalise_column<SharedKey, C, view_of<decltype(p)>>{row, p[1], temporary[0]});
    ops.linear(frame.features, temporary[0], frame.logits, store::add);
  }

  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    const auto row = column_row<C>(frame, p);
    const auto& scaled = temporary[0];
    const auto& a = temporary[1];
    const auto& part = temporary[2];
    using view = view_of<decltype(p)>;
    ops.each_row(scaled.rows, detail::normalise_column<SharedKey, C, view>{row, p[1], scaled});
    ops.input_gradient(gradient.logits, scaled, gradient.features, store::add);
    const auto& dkey = dp[SharedKey ? 2 : 0];
    if (dp[0].empty() && dp[1].empty() && dkey.empty()) return;
    ops.weight_gradient(gradient.logits, frame.features, a, store::assign);
    ops.each_row(a.rows, detail::normalise_column_backward<SharedKey, C, view>{
                             row, p[1], a, part, accumulate(ops, dp[0]), accumulate(ops, dkey)});
    ops.column_sum(part, dp[1]);
  }

 private:
  template <class P>
  using view_of = std::remove_cvref_t<decltype(std::declval<P>()[0])>;

  template <class C>
  static auto column_row(const router_frame<C>& frame, const auto& p) {
    return detail::column_row<SharedKey, C, view_of<decltype(p)>>{p[0], p[SharedKey ? 2 : 0], frame.candidates};
  }
};

/// Row-normalised logits.
using normalised_score = basic_normalised_score<false>;
/// Row-normalised logits whose rows are the layer's offset plus a key that belongs to the expert.
using keyed_score = basic_normalised_score<true>;

}  // namespace moue::inline v0_1
