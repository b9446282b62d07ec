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
#include "moue/operations/gated_linear.hpp"

namespace moue::inline v0_1 {
/// y = W_down (act(W_gate x + b_gate) * (W_up x + b_up)) + b_down, or with act(gate, up) in place of the product, with
/// W_gate, W_up [hidden, width] and W_down [width, hidden]; no biases unless `Biased`. Saves both pre-activations.
/// 6 width hidden FLOPs a row forward, twice that backward.
template <class ActivationT, bool Biased = false>
struct gated_mlp {
  static_assert(Activation<ActivationT> || PairActivation<ActivationT>,
                "moue: the activation of gated_mlp needs static 'value(x)' and 'derivative(x)', or static 'value(gate, "
                "up)', 'gate_derivative(gate, up)' and 'up_derivative(gate, up)'");

  index_t width = 0;
  index_t hidden = 0;  ///< hidden units

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
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& gate = saved[0];
    const auto& up = saved[1];
    const auto& h = temporary[0];
    if constexpr (Biased) {
      detail::linear_pair(ops, x, p[0], p[1], gate, up);
      ops.each_element(gate.rows, gate.cols, detail::add_bias{gate, p[3]});
      ops.each_element(up.rows, up.cols, detail::add_bias{up, p[4]});
      ops.each_element(h.rows, h.cols, detail::activate_gated<ActivationT, C>{gate, up, h});
    } else {
      gated_linear(ops, x, p[0], p[1], ActivationT{}, gate, up, h);
    }
    ops.linear(h, p[2], y);
    if constexpr (Biased) ops.each_element(y.rows, y.cols, detail::add_bias{y, p[5]});
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& a = temporary[0];
    const auto& h = temporary[1];
    const auto& du = temporary[2];
    if constexpr (Biased)
      ops.each_row(out.dy.rows, detail::gate_of_bias{out.dy, p[5], out.dgate});
    else
      ops.each_row(out.dy.rows, detail::zero_gate<C>{out.dgate});
    gated_linear_backward(ops, out.dy, p[2], ActivationT{}, saved[0], saved[1], out.gate, h, a, du, out.dgate);
    ops.weight_gradient(out.dy, h, dp[2]);
    detail::weight_gradient_pair(ops, a, du, x, dp[0], dp[1]);
    detail::input_gradient_pair(ops, a, p[0], du, p[1], dx);
    if constexpr (Biased) {
      ops.column_sum(a, dp[3]);
      ops.column_sum(du, dp[4]);
      if (dp[5].empty()) return;
      ops.each_element(out.dy.rows, out.dy.cols, detail::scale_rows{out.dy, out.gate, temporary[3]});
      ops.column_sum(temporary[3], dp[5]);
    }
  }
};

/// SwiGLU without biases (Shazeer, arXiv 2002.05202), the default expert of most public models.
using swiglu = gated_mlp<silu>;

}  // namespace moue::inline v0_1
