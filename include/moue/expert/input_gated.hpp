// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert whose gate multiplies what it reads.

#include <array>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"
#include "moue/expert/wrapped.hpp"
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
    return detail::join_arrays(expert.parameters(), std::array{detail::gate_vector("input_gate", width)});
  }
  auto saved() const { return detail::join_arrays(expert.saved(), std::array<index_t, 2>{1, width}); }
  auto temporaries() const { return detail::join_arrays(expert.temporaries(), std::array<index_t, 1>{1}); }

  template <class C, class T>
  void forward(const auto& ops, const auto& p, const token_rows<T, C>& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& scaled = saved[wrapped::saved + 1];
    ops.linear(x, p[wrapped::parameters], saved[wrapped::saved]);
    ops.each_row(x.rows, detail::gate_input<C, T>{saved[wrapped::saved], x, scaled});
    expert.forward(ops, wrapped::parameters_of(p), token_rows<C, C>(scaled), wrapped::saved_of(saved),
                   wrapped::temporaries_of(temporary), y);
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const token_rows<T, C>& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& slope = temporary[wrapped::temporaries];
    expert.backward(ops, wrapped::parameters_of(p), token_rows<C, C>(saved[wrapped::saved + 1]),
                    wrapped::saved_of(saved), wrapped::temporaries_of(temporary), out, dx, wrapped::parameters_of(dp));
    ops.each_row(x.rows, detail::gate_input_backward<C, T>{saved[wrapped::saved], x, dx, slope});
    ops.weight_gradient(slope, x, dp[wrapped::parameters]);
    ops.input_gradient(slope, p[wrapped::parameters], dx, store::add);
  }

 private:
  using wrapped = detail::wrapped<ExpertT>;
};

}  // namespace moue::inline v0_1
