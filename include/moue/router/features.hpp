// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Feature stages: what the router reads.

#include <array>
#include <cmath>

#include "moue/lanes.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// The layer's input as it is. Costs nothing: the input itself is handed on.
struct input_features {
  constexpr index_t width(index_t input) const { return input; }
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

namespace detail {

template <class C>
struct rms_row {
  matrix_view<const C> x;
  matrix_view<C> out;
  double epsilon;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    using std::sqrt;
    C sum = C(0);
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step()) sum += x(t, j) * x(t, j);
    const C scale = C(1) / sqrt(lanes.sum(sum) / C(x.cols) + C(epsilon));
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step()) out(t, j) = x(t, j) * scale;
  }
};

template <class C>
struct rms_backward_row {
  matrix_view<const C> x;
  matrix_view<const C> dout;
  matrix_view<C> dx;
  double epsilon;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    using std::sqrt;
    C sum = C(0), along = C(0);
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step()) {
      sum += x(t, j) * x(t, j);
      along += x(t, j) * dout(t, j);
    }
    along = lanes.sum(along);
    const C scale = C(1) / sqrt(lanes.sum(sum) / C(x.cols) + C(epsilon));
    const C back = along * scale * scale * scale / C(x.cols);
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step()) dx(t, j) += scale * dout(t, j) - back * x(t, j);
  }
};

}  // namespace detail

/// x / sqrt(mean(x²) + epsilon): makes the logits independent of the input's scale. With `normalised_score` it is the
/// cosine router (XMoE, arXiv 2204.09179, without its projection), up to the factor sqrt(width).
struct rms_features {
  double epsilon = 1e-12;  ///< added to the mean of squares

  constexpr index_t width(index_t input) const { return input; }
  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_row(frame.input.rows, detail::rms_row<C>{frame.input, frame.features, epsilon});
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto&,
                const auto&, const auto&) const {
    ops.each_row(frame.input.rows,
                 detail::rms_backward_row<C>{frame.input, gradient.features, gradient.input, epsilon});
  }
};

}  // namespace moue::inline v0_1
