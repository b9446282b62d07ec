// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The expert that returns its input.

#include <array>

#include "moue/expert.hpp"
#include "moue/expert/rows.hpp"

namespace moue::inline v0_1 {

/// y = x: lets a token skip the layer (MoE++, arXiv 2410.07348). No parameters.
struct copy_expert {
  index_t width = 0;

  auto parameters() const { return std::array<parameter_spec, 0>{}; }
  auto saved() const { return std::array<index_t, 0>{}; }
  auto temporaries() const { return std::array<index_t, 0>{}; }

  template <class C>
  void forward(const auto& ops, const auto&, const auto& x, const auto&, const auto&, matrix_view<C> y) const {
    ops.each_element(y.rows, y.cols, detail::copy_element{x, y});
  }
  template <class C, class T>
  void backward(const auto& ops, const auto&, const auto& x, const auto&, const auto&, gated_gradient<C, T> out,
                matrix_view<C> dx, const auto&) const {
    ops.each_row(x.rows, detail::row_dot{out.dy, x, out.dgate});
    ops.each_element(dx.rows, dx.cols, detail::scale_rows{out.dy, out.gate, dx});
  }
};

}  // namespace moue::inline v0_1
