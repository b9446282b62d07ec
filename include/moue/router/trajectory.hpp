// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The trajectory term of the universal router: logits that remember which experts a token has visited.

#include <array>
#include <cmath>

#include "moue/router.hpp"
#include "moue/router/rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// to(t, j) = factor from(t, j), or += if `Add`.
template <bool Add, class C>
struct scale_element {
  matrix_view<const C> from;
  C factor;
  matrix_view<C> to;
  MOUE_HD void operator()(index_t t, index_t j) const {
    if constexpr (Add)
      to(t, j) += factor * from(t, j);
    else
      to(t, j) = factor * from(t, j);
  }
};

/// s' = decay s + sum over selected of gate_e key_e, as a product of the dense gates with the candidates' keys, which are
/// gathered from `table` into `keys`.
template <class C>
void advance_by_keys(const auto& ops, const router_frame<C>& frame, double decay, const auto& table,
                     const matrix_view<C>& keys) {
  ops.each_row(keys.rows, gather_rows{table, frame.candidates, keys});
  ops.each_element(frame.state.rows, frame.state.cols,
                   scale_element<false, C>{frame.state, C(decay), frame.next_state});
  ops.input_gradient(frame.gates, keys, frame.next_state, store::add);
}

/// Adds to the gradients of the state, of the dense gates and of the key table.
template <class C>
void advance_by_keys_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                              double decay, const auto& table, const matrix_view<C>& keys, const matrix_view<C>& dkeys,
                              const auto& dtable) {
  ops.each_row(keys.rows, gather_rows{table, frame.candidates, keys});
  ops.each_element(gradient.state.rows, gradient.state.cols,
                   scale_element<true, C>{gradient.next_state, C(decay), gradient.state});
  ops.linear(gradient.next_state, keys, gradient.gates, store::add);
  scatter_weight_gradient(ops, frame.gates, gradient.next_state, dkeys, frame.candidates, dtable);
}

}  // namespace detail

/// z_e += (R_l s_l) · K'_e with the trajectory state s [tokens, rank]: s_0 = 0, s_{l+1} = decay s_l + sum over selected e
/// of gate_e K'_e. Gradients flow through gates, keys and state; nothing is detached. Parameters: `trajectory_map` R_l
/// [rank, rank] per layer, zero at the start; `trajectory_key` K' [experts, rank] per model. This library's formulation
/// (docs/method.md), not the equations of arXiv 2603.04971.
struct trajectory {
  index_t rank = 32;   ///< of keys, and so the width of the state
  double decay = 0.5;  ///< of the state from layer to layer

  constexpr index_t state_width() const { return rank; }
  auto parameters(router_shape s) const {
    return std::array{parameter_spec{"trajectory_map", rank, rank, initializer::constant(0), scope::layer, true, true},
                      parameter_spec{"trajectory_key", s.experts, rank,
                                     initializer::normal(1 / std::sqrt(double(rank))), scope::model, true, true}};
  }
  auto temporaries(router_shape s) const {
    return std::array{matrix_shape{s.candidates, rank}, matrix_shape{s.candidates, rank}, matrix_shape{s.tokens, rank},
                      matrix_shape{s.tokens, rank}};
  }

  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    const auto& keys = temporary[0];
    const auto& path = temporary[2];
    ops.each_row(keys.rows, detail::gather_rows{p[1], frame.candidates, keys});
    ops.linear(frame.state, p[0], path);
    ops.linear(path, keys, frame.logits, store::add);
  }

  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    const auto& keys = temporary[0];
    const auto& dkeys = temporary[1];
    const auto& path = temporary[2];
    const auto& dpath = temporary[3];
    ops.each_row(keys.rows, detail::gather_rows{p[1], frame.candidates, keys});
    ops.linear(frame.state, p[0], path);
    detail::scatter_weight_gradient(ops, gradient.logits, path, dkeys, frame.candidates, dp[1]);
    ops.input_gradient(gradient.logits, keys, dpath);
    ops.weight_gradient(dpath, frame.state, dp[0]);
    ops.input_gradient(dpath, p[0], gradient.state, store::add);
  }

  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    detail::advance_by_keys(ops, frame, decay, p[1], temporary[0]);
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const {
    detail::advance_by_keys_backward(ops, frame, gradient, decay, p[1], temporary[0], temporary[1], dp[1]);
  }
};

}  // namespace moue::inline v0_1
