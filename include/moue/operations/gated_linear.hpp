// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Two operations that a backend may offer, so that a gated expert's activations stay in registers or cache between the
/// products and the gating function: `gated_linear` and its backward. Elsewhere they are composed of the six.

#include "moue/expert/activation.hpp"
#include "moue/lanes.hpp"
#include "moue/operations.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

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

/// h = f(gate, up).
template <class ActivationT, class C>
struct activate_gated {
  matrix_view<const C> gate;
  matrix_view<const C> up;
  matrix_view<C> h;
  MOUE_HD void operator()(index_t i, index_t j) const { h(i, j) = gated_value<ActivationT>(gate(i, j), up(i, j)); }
};

/// What follows the product in `gated_linear_backward`; `dgate` holds a on entry.
template <class ActivationT, class C>
struct gated_backward_row {
  matrix_view<const C> gate;
  matrix_view<const C> up;
  vector_view<const C> scale;
  matrix_view<C> h;
  matrix_view<C> dgate;
  matrix_view<C> dup;
  vector_view<C> dscale;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C s = scale[i];
    const C sum = sum_columns(dscale[i], gate.cols, lanes, [&](index_t j) {
      const gating<C> f = gated_derivatives<ActivationT>(gate(i, j), up(i, j));
      const C a = dgate(i, j);
      h(i, j) = s * f.value;
      dup(i, j) = s * a * f.up_derivative;
      dgate(i, j) = s * a * f.gate_derivative;
      return a * f.value;
    });
    if (lanes.leads()) dscale[i] = sum;
  }
};

}  // namespace detail

/// gate = x w_gateᵀ, up = x w_upᵀ and h = f(gate, up), with x [m, k], both weights [n, k], and [m, n] the rest. All three
/// are assigned: `gate` and `up` are what an expert saves for its backward, `h` goes on to the next product.
///
/// f is act(gate) · up or act(gate, up), as the type of `activation` says (`Activation` or `PairActivation`). `x` is a
/// matrix or `token_rows`, a weight a matrix or a `grouped_matrix`: whatever `ops.linear` takes.
///
/// Calls `ops.gated_linear(x, w_gate, w_up, activation, gate, up, h)` if there is such a member: all three results must
/// agree with those that the six operations give, as products of one backend agree with plain loops. 4 m n k FLOPs.
template <class X, class W, class A, class C>
void gated_linear(const auto& ops, const X& x, const W& w_gate, const W& w_up, const A& activation,
                  const matrix_view<C>& gate, const matrix_view<C>& up, const matrix_view<C>& h) {
  if constexpr (requires { ops.gated_linear(x, w_gate, w_up, activation, gate, up, h); }) {
    ops.gated_linear(x, w_gate, w_up, activation, gate, up, h);
  } else {
    detail::linear_pair(ops, x, w_gate, w_up, gate, up);
    ops.each_element(h.rows, h.cols, detail::activate_gated<A, C>{gate, up, h});
  }
}

/// Its backward, for rows whose result y = f(gate, up) w_downᵀ enters a sum as scale · y. With a = dy w_down, where f and
/// its derivatives are taken at the saved `gate` and `up`:
///
///     h = scale f         dgate = scale a df/dgate         dup = scale a df/dup         dscale += the sum of a f over a row
///
/// `dy` [m, k], `w_down` [k, n], `scale` and `dscale` [m], [m, n] the rest; h, dgate and dup are assigned. What is left
/// to an expert are the gradients of its weights, dyᵀ h, dgateᵀ x and dupᵀ x, and of x.
///
/// Calls `ops.gated_linear_backward` with the same arguments if there is such a member, on the same terms. 2 m n k FLOPs.
template <class DY, class W, class A, class C>
void gated_linear_backward(const auto& ops, const DY& dy, const W& w_down, const A& activation,
                           const matrix_view<const C>& gate, const matrix_view<const C>& up,
                           const vector_view<const C>& scale, const matrix_view<C>& h, const matrix_view<C>& dgate,
                           const matrix_view<C>& dup, const vector_view<C>& dscale) {
  if constexpr (requires {
                  ops.gated_linear_backward(dy, w_down, activation, gate, up, scale, h, dgate, dup, dscale);
                }) {
    ops.gated_linear_backward(dy, w_down, activation, gate, up, scale, h, dgate, dup, dscale);
  } else {
    ops.input_gradient(dy, w_down, dgate);
    ops.each_row(dgate.rows, detail::gated_backward_row<A, C>{gate, up, scale, h, dgate, dup, dscale});
  }
}

}  // namespace moue::inline v0_1
