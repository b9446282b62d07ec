// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The two-matrix feed-forward expert.

#include <array>
#include <cmath>

#include "moue/expert.hpp"
#include "moue/expert/activation.hpp"
#include "moue/expert/rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class ActivationT, class C>
struct activate {
  matrix_view<const C> pre;
  matrix_view<C> out;
  MOUE_HD void operator()(index_t i, index_t j) const { out(i, j) = ActivationT::value(pre(i, j)); }
};

/// From a = dy W_down (not scaled by the gate), per row: dgate = <a, h> (+ what the caller put there for the bias), and
/// then h *= gate, a *= gate act'(pre).
template <class ActivationT, class C>
struct mlp_backward_row {
  matrix_view<const C> pre;
  matrix_view<C> h;
  matrix_view<C> a;
  vector_view<const C> gate;
  vector_view<C> dgate;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C g = gate[i];
    const C sum = sum_columns(dgate[i], pre.cols, lanes, [&](index_t j) {
      const C da = a(i, j), value = ActivationT::value(pre(i, j));
      h(i, j) = g * value;
      a(i, j) = da * (g * ActivationT::derivative(pre(i, j)));
      return da * value;
    });
    if (lanes.leads()) dgate[i] = sum;
  }
};

}  // namespace detail

/// y = W_down act(W_up x + b_up) + b_down, with W_up [hidden, width] and W_down [width, hidden]; no biases unless
/// `Biased`. Saves the pre-activation only. 4 width hidden FLOPs a row forward, twice that backward.
template <Activation ActivationT, bool Biased = false>
struct mlp {
  index_t width = 0;
  index_t hidden = 0;  ///< hidden units

  auto parameters() const {
    const parameter_spec up{"up",          hidden, width, initializer::normal(1 / std::sqrt(double(width))),
                            scope::expert, true,   true};
    const parameter_spec down{"down",        width, hidden, initializer::normal(1 / std::sqrt(double(hidden))),
                              scope::expert, true,  true};
    if constexpr (Biased)
      return std::array{up, down, parameter_spec{"up_bias", 1, hidden, {}, scope::expert},
                        parameter_spec{"down_bias", 1, width, {}, scope::expert}};
    else
      return std::array{up, down};
  }
  auto saved() const { return std::array{hidden}; }
  auto temporaries() const {
    if constexpr (Biased)
      return std::array{hidden, hidden, width};
    else
      return std::array{hidden, hidden};
  }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& pre = saved[0];
    const auto& h = temporary[0];
    ops.linear(x, p[0], pre);
    if constexpr (Biased) ops.each_element(pre.rows, pre.cols, detail::add_bias{pre, p[2]});
    ops.each_element(h.rows, h.cols, detail::activate<ActivationT, C>{pre, h});
    ops.linear(h, p[1], y);
    if constexpr (Biased) ops.each_element(y.rows, y.cols, detail::add_bias{y, p[3]});
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& a = temporary[0];
    const auto& h = temporary[1];
    if constexpr (Biased)
      ops.each_row(out.dy.rows, detail::gate_of_bias{out.dy, p[3], out.dgate});
    else
      ops.each_row(out.dy.rows, detail::zero_gate<C>{out.dgate});
    ops.input_gradient(out.dy, p[1], a);
    ops.each_row(a.rows, detail::mlp_backward_row<ActivationT, C>{saved[0], h, a, out.gate, out.dgate});
    ops.weight_gradient(out.dy, h, dp[1]);
    ops.weight_gradient(a, x, dp[0]);
    ops.input_gradient(a, p[0], dx);
    if constexpr (Biased) {
      ops.column_sum(a, dp[2]);
      if (dp[3].empty()) return;
      ops.each_element(out.dy.rows, out.dy.cols, detail::scale_rows{out.dy, out.gate, temporary[2]});
      ops.column_sum(temporary[2], dp[3]);
    }
  }
};

}  // namespace moue::inline v0_1
