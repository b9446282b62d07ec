// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Two operations that a backend may offer to keep a gated expert's activations in registers, and what they are composed
/// of where it does not.
///
///     ops.gated_linear(x, w0, w1, activation, y0, y1, h);
///     ops.gated_linear_backward(dy, w_down, activation, y0, y1, gate, h, d0, d1, dgate);
///
/// `activation` is an object whose type is an `Activation` of the first branch or a `PairActivation` of both; `x` and `dy`
/// are matrices or `token_rows`. Results must agree with the composed ones as products of one backend do.

#include "moue/expert/activation.hpp"
#include "moue/lanes.hpp"
#include "moue/operations.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// A gating function f with its two derivatives, from an activation of the gate alone or of the pair.
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

/// h = f(y0, y1).
template <class ActivationT, class C>
struct activate_gated {
  matrix_view<const C> gate;
  matrix_view<const C> up;
  matrix_view<C> out;
  MOUE_HD void operator()(index_t i, index_t j) const { out(i, j) = gated_value<ActivationT>(gate(i, j), up(i, j)); }
};

/// From a = dy W_down (not scaled by the combine gate g), per row: dg += <a, f>; h = g f; up_gradient = g a df/dup;
/// a = g a df/dgate, the gradient of the gate branch.
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

/// y0 = x w0ᵀ, y1 = x w1ᵀ, h = f(y0, y1), with x [m, k], w0 and w1 [n, k], y0, y1 and h [m, n].
template <class X, class W, class A, class C>
void gated_linear(const auto& ops, const X& x, const W& w0, const W& w1, const A& activation, const matrix_view<C>& y0,
                  const matrix_view<C>& y1, const matrix_view<C>& h) {
  if constexpr (requires { ops.gated_linear(x, w0, w1, activation, y0, y1, h); }) {
    ops.gated_linear(x, w0, w1, activation, y0, y1, h);
  } else {
    linear_pair(ops, x, w0, w1, y0, y1);
    ops.each_element(h.rows, h.cols, activate_gated<A, C>{y0, y1, h});
  }
}

/// With a = dy w_down and the rows' combine gates: dgate += <a, f>, h = gate f, d0 = gate a df/dy0, d1 = gate a df/dy1,
/// with dy [m, k], w_down [k, n], and [m, n] the rest. The last three are assigned.
template <class DY, class W, class A, class C>
void gated_linear_backward(const auto& ops, const DY& dy, const W& w_down, const A& activation,
                           const matrix_view<const C>& y0, const matrix_view<const C>& y1,
                           const vector_view<const C>& gate, const matrix_view<C>& h, const matrix_view<C>& d0,
                           const matrix_view<C>& d1, const vector_view<C>& dgate) {
  if constexpr (requires { ops.gated_linear_backward(dy, w_down, activation, y0, y1, gate, h, d0, d1, dgate); }) {
    ops.gated_linear_backward(dy, w_down, activation, y0, y1, gate, h, d0, d1, dgate);
  } else {
    ops.input_gradient(dy, w_down, d0);
    ops.each_row(d0.rows, gated_backward_row<A, C>{y0, y1, h, d0, d1, gate, dgate});
  }
}

}  // namespace moue::inline v0_1::detail
