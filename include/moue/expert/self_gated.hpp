// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert that scales another's output by a gate of its own.

#include <array>
#include <cmath>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"
#include "moue/expert/inner.hpp"
#include "moue/expert/rows.hpp"
#include "moue/lanes.hpp"
#include "moue/math.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// gate(i, 0) holds a logit on entry and its sigmoid on return; y(i, :) is multiplied by it.
template <class C>
struct apply_self_gate {
  matrix_view<C> gate;
  matrix_view<C> y;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const C s = sigmoid(gate(i, 0));
    lanes.wait();  // all have read it
    if (lanes.leads()) gate(i, 0) = s;
    for (index_t j = lanes.first(); j < y.cols; j += lanes.step()) y(i, j) *= s;
  }
};

/// From dgate = <dy, y>, per row: the gradient of the self gate's logit. As y = s E(x), d y / d logit = (1 - s) y.
template <class C>
struct self_gate_slope {
  matrix_view<const C> self;
  vector_view<const C> gate;
  vector_view<const C> dgate;
  matrix_view<C> slope;
  MOUE_HD void operator()(index_t i) const { slope(i, 0) = gate[i] * (C(1) - self(i, 0)) * dgate[i]; }
};

/// scaled(i, :) = self(i) dy(i, :).
template <class C, class T>
struct scale_by_self_gate {
  matrix_view<const C> self;
  token_rows<T, C> dy;
  matrix_view<C> scaled;
  MOUE_HD void operator()(index_t i, index_t j) const { scaled(i, j) = self(i, 0) * dy(i, j); }
};

}  // namespace detail

/// y = sigmoid(w · x) E(x) with any expert E and `self_gate` w [1, width], whose tensor stands behind E's: the shared
/// expert of Qwen2-MoE (arXiv 2407.10671). Saves the gate, and outputs only if E has no gated `backward`.
template <class ExpertT>
struct self_gated {
  static_assert(check_expert<ExpertT>());

  /// E
  ExpertT expert;
  index_t width;

  /// Takes over E's width.
  constexpr explicit self_gated(ExpertT inner) : expert(std::move(inner)), width(expert.width) {}

  auto parameters() const {
    return detail::join_arrays(
        expert.parameters(),
        std::array{parameter_spec{"self_gate", 1, width, initializer::normal(1 / std::sqrt(double(width))),
                                  scope::expert, true, true}});
  }
  auto saved() const {
    if constexpr (gated)
      return detail::join_arrays(expert.saved(), std::array<index_t, 1>{1});
    else
      return detail::join_arrays(expert.saved(), std::array<index_t, 2>{1, width});
  }
  auto temporaries() const { return detail::join_arrays(expert.temporaries(), std::array<index_t, 2>{1, width}); }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    expert.forward(ops, parts::parameters_of(p), x, parts::saved_of(saved), parts::temporaries_of(temporary), y);
    ops.linear(x, p[parts::own], saved[parts::own_saved]);
    ops.each_row(x.rows, detail::apply_self_gate<C>{saved[parts::own_saved], y});
    if constexpr (!gated) ops.each_element(y.rows, y.cols, detail::copy_element<C, C>{y, saved[parts::own_saved + 1]});
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& self = saved[parts::own_saved];
    const auto& slope = temporary[parts::own_temporary];
    const auto& scaled = temporary[parts::own_temporary + 1];
    ops.each_element(scaled.rows, scaled.cols, detail::scale_by_self_gate<C, T>{self, out.dy, scaled});
    const auto inner = [&](const auto& dy) {
      expert.backward(ops, parts::parameters_of(p), x, parts::saved_of(saved), parts::temporaries_of(temporary), dy, dx,
                      parts::parameters_of(dp));
    };
    if constexpr (gated) {
      inner(gated_gradient<C>{scaled, out.gate, out.dgate});
    } else {
      ops.each_row(x.rows, detail::row_dot<C, T, C>{out.dy, saved[parts::own_saved + 1], out.dgate});
      ops.each_element(scaled.rows, scaled.cols, detail::scale_rows<C, C>{scaled, out.gate, scaled});
      inner(matrix_view<const C>(scaled));
    }
    ops.each_row(x.rows, detail::self_gate_slope<C>{self, out.gate, out.dgate, slope});
    ops.weight_gradient(slope, x, dp[parts::own]);
    ops.input_gradient(slope, p[parts::own], dx, store::add);
  }

 private:
  static constexpr bool gated = detail::has_gated_backward<ExpertT>;
  using parts = detail::inner_expert<ExpertT>;
};

}  // namespace moue::inline v0_1
