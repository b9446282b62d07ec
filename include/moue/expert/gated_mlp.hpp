// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The gated (three-matrix) feed-forward expert; with SiLU it is SwiGLU.

#include <array>
#include <cmath>

#include "moue/expert.hpp"
#include "moue/expert/activation.hpp"
#include "moue/expert/rows.hpp"
#include "moue/operations.hpp"

namespace moue {
namespace detail {

/// A gating function with its two derivatives, from an activation of the gate alone or of the pair.
template <class C>
struct gating {
  C value, gate_derivative, up_derivative;
};
template <class ActivationT, class C>
[[gnu::always_inline]] MOUE_HD inline C gated_value(C gate, C up) {
  if constexpr (PairActivation<ActivationT>)
    return ActivationT::value(gate, up);
  else
    return ActivationT::value(gate) * up;
}
template <class ActivationT, class C>
[[gnu::always_inline]] MOUE_HD inline gating<C> gated_derivatives(C gate, C up) {
  if constexpr (PairActivation<ActivationT>) {
    return {ActivationT::value(gate, up), ActivationT::gate_derivative(gate, up), ActivationT::up_derivative(gate, up)};
  } else {
    const C activated = ActivationT::value(gate);
    return {activated * up, up * ActivationT::derivative(gate), activated};
  }
}

template <class ActivationT, class C>
struct activate_gated {
  matrix_view<const C> gate;
  matrix_view<const C> up;
  matrix_view<C> out;
  MOUE_HD void operator()(index_t i, index_t j) const { out(i, j) = gated_value<ActivationT>(gate(i, j), up(i, j)); }
};

/// From a = dy W_down (not scaled by the combine gate g), per row, with f the gating function: dg += <a, f>; h = g f;
/// up_gradient = g a df/dup; a = g a df/dgate, the gradient of the gate branch.
template <class ActivationT, class C>
struct gated_backward_row {
  matrix_view<const C> gate;
  matrix_view<const C> up;
  matrix_view<C> h;
  matrix_view<C> a;
  matrix_view<C> up_gradient;
  vector_view<const C> g;
  vector_view<C> dg;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    C sum = lanes.leads() ? dg[i] : C(0);
    const C scale = g[i];
    for (index_t j = lanes.first(); j < gate.cols; j += lanes.step()) {
      const gating<C> f = gated_derivatives<ActivationT>(gate(i, j), up(i, j));
      const C da = a(i, j);
      sum += da * f.value;
      h(i, j) = scale * f.value;
      up_gradient(i, j) = scale * da * f.up_derivative;
      a(i, j) = scale * da * f.gate_derivative;
    }
    sum = lanes.sum(sum);
    if (lanes.leads()) dg[i] = sum;
  }
};

}  // namespace detail

/// y = W_down (act(W_gate x + b_gate) * (W_up x + b_up)) + b_down, or with act(gate, up) in place of the product, with
/// W_gate, W_up [hidden, width] and W_down [width, hidden]; no biases unless `Biased`. Saves both pre-activations.
/// 6 width hidden FLOPs a row forward, twice that backward.
template <class ActivationT, bool Biased = false>
struct gated_mlp {
  static_assert(Activation<ActivationT> || PairActivation<ActivationT>,
                "moue: the activation of gated_mlp needs static 'value(x)' and 'derivative(x)', or static 'value(gate, "
                "up)', 'gate_derivative(gate, up)' and 'up_derivative(gate, up)'");

  index_t width = 1;
  index_t hidden = 1;

  auto parameters() const {
    const auto in = initializer::normal(1 / std::sqrt(double(width)));
    const auto out = initializer::normal(1 / std::sqrt(double(hidden)));
    const parameter_spec gate{"gate", hidden, width, in, scope::expert, true, true};
    const parameter_spec up{"up", hidden, width, in, scope::expert, true, true};
    const parameter_spec down{"down", width, hidden, out, scope::expert, true, true};
    if constexpr (Biased)
      return std::array{gate,
                        up,
                        down,
                        parameter_spec{"gate_bias", 1, hidden, {}, scope::expert},
                        parameter_spec{"up_bias", 1, hidden, {}, scope::expert},
                        parameter_spec{"down_bias", 1, width, {}, scope::expert}};
    else
      return std::array{gate, up, down};
  }
  auto saved() const { return std::array{hidden, hidden}; }
  auto temporaries() const {
    if constexpr (Biased)
      return std::array{hidden, hidden, hidden, width};
    else
      return std::array{hidden, hidden, hidden};
  }

  template <class C>
  void forward(const auto& ops, const auto& p, matrix_view<const C> x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& gate = saved[0];
    const auto& up = saved[1];
    const auto& h = temporary[0];
    detail::linear_pair(ops, x, p[0], p[1], gate, up);
    if constexpr (Biased) {
      ops.each_element(gate.rows, gate.cols, detail::add_bias{gate, p[3]});
      ops.each_element(up.rows, up.cols, detail::add_bias{up, p[4]});
    }
    ops.each_element(h.rows, h.cols, detail::activate_gated<ActivationT, C>{gate, up, h});
    ops.linear(h, p[2], y);
    if constexpr (Biased) ops.each_element(y.rows, y.cols, detail::add_bias{y, p[5]});
  }

  template <class C>
  void backward(const auto& ops, const auto& p, matrix_view<const C> x, const auto& saved, const auto& temporary,
                gated_gradient<C> out, matrix_view<C> dx, const auto& dp) const {
    const auto& a = temporary[0];
    const auto& h = temporary[1];
    const auto& du = temporary[2];
    if constexpr (Biased)
      ops.each_row(out.dy.rows, detail::gate_of_bias{out.dy, p[5], out.dgate});
    else
      ops.each_row(out.dy.rows, detail::zero_gate<C>{out.dgate});
    ops.input_gradient(out.dy, p[2], a);
    ops.each_row(a.rows, detail::gated_backward_row<ActivationT, C>{saved[0], saved[1], h, a, du, out.gate, out.dgate});
    ops.weight_gradient(out.dy, h, dp[2]);
    detail::weight_gradient_pair(ops, a, du, x, dp[0], dp[1]);
    detail::input_gradient_pair(ops, a, p[0], du, p[1], dx);
    if constexpr (Biased) {
      ops.column_sum(a, dp[3]);
      ops.column_sum(du, dp[4]);
      if (dp[5].empty()) return;
      ops.each_element(out.dy.rows, out.dy.cols, detail::scale_rows<C>{out.dy, out.gate, temporary[3]});
      ops.column_sum(temporary[3], dp[5]);
    }
  }
};

/// SwiGLU without biases (Shazeer, arXiv 2002.05202), the default expert of most public models.
using swiglu = gated_mlp<silu>;

}  // namespace moue
