// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The expert that blends its input with one learned vector.

#include <array>
#include <cmath>

#include "moue/expert.hpp"
#include "moue/expert/rows.hpp"
#include "moue/lanes.hpp"
#include "moue/math.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// mix(i, :) holds two logits on entry and their softmax on return; y = mix0 x + mix1 v.
template <class C, class T, class W>
struct blend_row {
  matrix_view<C> mix;
  token_rows<T, C> x;
  W vector;
  matrix_view<C> y;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C second = sigmoid(mix(i, 1) - mix(i, 0)), first = C(1) - second;  // the softmax of two numbers
    lanes.wait();                                                            // all have read them
    if (lanes.leads()) {
      mix(i, 0) = first;
      mix(i, 1) = second;
    }
    const auto v = vector.for_row(i);
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step())
      y(i, j) = first * x(i, j) + second * static_cast<C>(v(0, j));
  }
};

/// Per row: the gate's gradient <dy, y>; the two logits' gradients into dmix; the vector's gradient rows into dv; and the
/// direct part of dx.
template <class C, class T, class W, class DY>
struct blend_backward_row {
  matrix_view<const C> mix;
  token_rows<T, C> x;
  W vector;
  gated_gradient<C, DY> out;
  matrix_view<C> dmix;
  matrix_view<C> dv;
  matrix_view<C> dx;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const auto v = vector.for_row(i);
    const C gate = out.gate[i];
    C along_x = C(0), along_v = C(0);
    for (index_t j = lanes.first(); j < x.cols; j += lanes.step()) {
      const C dy = out.dy(i, j);
      along_x += dy * x(i, j);
      along_v += dy * static_cast<C>(v(0, j));
      dx(i, j) = gate * mix(i, 0) * dy;
      dv(i, j) = gate * mix(i, 1) * dy;
    }
    along_x = lanes.sum(along_x);
    along_v = lanes.sum(along_v);
    if (!lanes.leads()) return;
    out.dgate[i] = mix(i, 0) * along_x + mix(i, 1) * along_v;
    const C slope = gate * mix(i, 0) * mix(i, 1) * (along_v - along_x);
    dmix(i, 0) = -slope;
    dmix(i, 1) = slope;
  }
};

template <class C, class T, class W>
blend_row(matrix_view<C>, token_rows<T, C>, W, matrix_view<C>) -> blend_row<C, T, W>;
template <class C, class T, class W, class DY>
blend_backward_row(matrix_view<const C>, token_rows<T, C>, W, gated_gradient<C, DY>, matrix_view<C>, matrix_view<C>,
                   matrix_view<C>) -> blend_backward_row<C, T, W, DY>;

}  // namespace detail

/// y = a_1 x + a_2 v with (a_1, a_2) = softmax(W x), W [2, width], v [1, width] (MoE++, arXiv 2410.07348, equation for
/// constant experts).
struct constant_expert {
  index_t width = 0;

  auto parameters() const {
    return std::array{
        parameter_spec{"mix", 2, width, initializer::normal(1 / std::sqrt(double(width))), scope::expert, true, true},
        parameter_spec{"vector", 1, width, initializer::normal(1), scope::expert}};
  }
  auto saved() const { return std::array<index_t, 1>{2}; }
  auto temporaries() const { return std::array<index_t, 2>{2, width}; }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&, matrix_view<C> y) const {
    ops.linear(x, p[0], saved[0]);
    ops.each_row(x.rows, detail::blend_row{saved[0], x, p[1], y});
  }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& dmix = temporary[0];
    const auto& dv = temporary[1];
    ops.each_row(x.rows, detail::blend_backward_row{saved[0], x, p[1], out, dmix, dv, dx});
    ops.weight_gradient(dmix, x, dp[0]);
    ops.column_sum(dv, dp[1]);
    ops.input_gradient(dmix, p[0], dx, store::add);
  }
};

}  // namespace moue::inline v0_1
