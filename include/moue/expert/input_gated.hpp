// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert whose gate multiplies what it reads.

#include <array>
#include <cmath>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"
#include "moue/expert/inner.hpp"
#include "moue/lanes.hpp"
#include "moue/math.hpp"
#include "moue/token_rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// gate(i, 0) holds a logit on entry and its sigmoid on return; scaled(i, :) = gate x(i, :).
template <class C, class T>
struct gate_input {
  matrix_view<C> gate;
  token_rows<T, C> x;
  matrix_view<C> scaled;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C s = sigmoid(gate(i, 0));
    lanes.wait();  // all have read it
    if (lanes.leads()) gate(i, 0) = s;
    for (index_t j = lanes.first(); j < scaled.cols; j += lanes.step()) scaled(i, j) = s * x(i, j);
  }
};

/// From the gradient of the scaled input: that of the logit, and that of the input by this way.
template <class C, class T>
struct gate_input_backward {
  matrix_view<const C> gate;
  token_rows<T, C> x;
  matrix_view<C> dx;
  matrix_view<C> slope;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C s = gate(i, 0);
    C sum = C(0);
    for (index_t j = lanes.first(); j < dx.cols; j += lanes.step()) {
      sum += dx(i, j) * x(i, j);
      dx(i, j) *= s;
    }
    sum = lanes.sum(sum);
    if (lanes.leads()) slope(i, 0) = s * (C(1) - s) * sum;
  }
};

}  // namespace detail

/// y = E(sigmoid(w · x) x) with any expert E that has a gated `backward`, and `input_gate` w [1, width], whose tensor
/// stands behind E's: the routed experts of Llama-4, where w is the expert's row of the router. Saves the gate and the
/// scaled input.
template <class ExpertT>
struct input_gated {
  static_assert(check_expert<ExpertT>());
  static_assert(detail::has_gated_backward<ExpertT>,
                "moue: input_gated needs an expert with the form of backward that takes a gated_gradient");

  ExpertT expert;  ///< E
  index_t width;

  /// Takes over E's width.
  constexpr explicit input_gated(ExpertT inner) : expert(std::move(inner)), width(expert.width) {}

  auto parameters() const {
    return detail::join_arrays(
        expert.parameters(),
        std::array{parameter_spec{"input_gate", 1, width, initializer::normal(1 / std::sqrt(double(width))),
                                  scope::expert, true, true}});
  }
  auto saved() const { return detail::join_arrays(expert.saved(), std::array<index_t, 2>{1, width}); }
  auto temporaries() const { return detail::join_arrays(expert.temporaries(), std::array<index_t, 1>{1}); }

  template <class C, class T>
  void forward(const auto& ops, const auto& p, const token_rows<T, C>& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& scaled = saved[parts::own_saved + 1];
    ops.linear(x, p[parts::own], saved[parts::own_saved]);
    ops.each_row(x.rows, detail::gate_input<C, T>{saved[parts::own_saved], x, scaled});
    expert.forward(ops, parts::parameters_of(p), token_rows<C, C>(scaled), parts::saved_of(saved),
                   parts::temporaries_of(temporary), y);
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const token_rows<T, C>& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& slope = temporary[parts::own_temporary];
    expert.backward(ops, parts::parameters_of(p), token_rows<C, C>(saved[parts::own_saved + 1]), parts::saved_of(saved),
                    parts::temporaries_of(temporary), out, dx, parts::parameters_of(dp));
    ops.each_row(x.rows, detail::gate_input_backward<C, T>{saved[parts::own_saved], x, dx, slope});
    ops.weight_gradient(slope, x, dp[parts::own]);
    ops.input_gradient(slope, p[parts::own], dx, store::add);
  }

 private:
  using parts = detail::inner_expert<ExpertT>;
};

}  // namespace moue::inline v0_1
