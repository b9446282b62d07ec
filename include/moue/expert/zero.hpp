// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The expert that computes nothing.

#include <array>

#include "moue/expert.hpp"
#include "moue/expert/rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class C>
struct fill_zero {
  matrix_view<C> m;
  MOUE_HD void operator()(index_t i, index_t j) const { m(i, j) = C(0); }
};

}  // namespace detail

/// y = 0: lets a token spend less (MoE++, arXiv 2410.07348). No parameters; its gate's gradient is 0.
struct zero_expert {
  index_t width = 0;

  auto parameters() const { return std::array<parameter_spec, 0>{}; }
  auto saved() const { return std::array<index_t, 0>{}; }
  auto temporaries() const { return std::array<index_t, 0>{}; }

  template <class C>
  void forward(const auto& ops, const auto&, const auto&, const auto&, const auto&, matrix_view<C> y) const {
    ops.each_element(y.rows, y.cols, detail::fill_zero<C>{y});
  }
  template <class C, class T>
  void backward(const auto& ops, const auto&, const auto&, const auto&, const auto&, gated_gradient<C, T> out,
                matrix_view<C> dx, const auto&) const {
    ops.each_row(out.dy.rows, detail::zero_gate<C>{out.dgate});
    ops.each_element(dx.rows, dx.cols, detail::fill_zero<C>{dx});
  }
};

}  // namespace moue::inline v0_1
