// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The bulk operations policies are written with. Every backend offers them; a policy sees nothing else of a backend.

#include "moue/gradients/targets.hpp"
#include "moue/store.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// The operations in their simplest form, with empty bodies: what concepts check policies against.
///
/// Matrices are row-major views. Weights may be stored in a narrower type than the rest; products are accumulated in the
/// type of the output, in an order that depends on shapes alone. Functors are copied, called concurrently for different
/// arguments, and must be callable on the device (`MOUE_HD`) to run there.
struct archetype_operations {
  /// y (=|+=) x wᵀ, with x [m, k], w [n, k], y [m, n].
  template <class X, class W, class Y>
  void linear(const X& x, const W& w, const Y& y, store mode = store::assign) const {
    (void)x, (void)w, (void)y, (void)mode;
  }
  /// dx (=|+=) dy w, with dy [m, n], w [n, k], dx [m, k].
  template <class DY, class W, class DX>
  void input_gradient(const DY& dy, const W& w, const DX& dx, store mode = store::assign) const {
    (void)dy, (void)w, (void)dx, (void)mode;
  }
  /// dw (=|+=) dyᵀ x, with dy [m, n], x [m, k], dw [n, k]. Zero rows that are assigned write zeros.
  template <class DY, class X, class DW>
  void weight_gradient(const DY& dy, const X& x, const DW& dw, store mode = store::add) const {
    (void)dy, (void)x, (void)dw, (void)mode;
  }
  /// The same for a `gradient_target`, which knows whether it is assigned.
  template <class DY, class X, class C>
  void weight_gradient(const DY& dy, const X& x, const gradient_target<C>& dw) const {
    (void)dy, (void)x, (void)dw;
  }
  /// out (=|+=) the sum of the rows of x, with x [m, n], out [1, n].
  template <class X, class Out>
  void column_sum(const X& x, const Out& out, store mode = store::add) const {
    (void)x, (void)out, (void)mode;
  }
  template <class X, class C>
  void column_sum(const X& x, const gradient_target<C>& out) const {
    (void)x, (void)out;
  }
  /// f(row) for every row in [0, rows).
  template <class F>
  void each_row(index_t rows, const F& f) const {
    (void)rows, (void)f;
  }
  /// f(row, column) for every element of a [rows, cols] matrix.
  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    (void)rows, (void)cols, (void)f;
  }
};

/// Two products that share a factor, at once where `ops` has a member of that name.
///
/// y0 = x w0ᵀ and y1 = x w1ᵀ.
template <class X, class W, class Y>
void linear_pair(const auto& ops, const X& x, const W& w0, const W& w1, const Y& y0, const Y& y1) {
  if constexpr (requires { ops.linear_pair(x, w0, w1, y0, y1); }) {
    ops.linear_pair(x, w0, w1, y0, y1);
  } else {
    ops.linear(x, w0, y0);
    ops.linear(x, w1, y1);
  }
}
/// dx = dy0 w0 + dy1 w1.
template <class DY, class W, class DX>
void input_gradient_pair(const auto& ops, const DY& dy0, const W& w0, const DY& dy1, const W& w1, const DX& dx) {
  if constexpr (requires { ops.input_gradient_pair(dy0, w0, dy1, w1, dx); }) {
    ops.input_gradient_pair(dy0, w0, dy1, w1, dx);
  } else {
    ops.input_gradient(dy0, w0, dx);
    ops.input_gradient(dy1, w1, dx, store::add);
  }
}
/// dw0 (=|+=) dy0ᵀ x and dw1 (=|+=) dy1ᵀ x, of targets.
template <class DY, class X, class DW>
void weight_gradient_pair(const auto& ops, const DY& dy0, const DY& dy1, const X& x, const DW& dw0, const DW& dw1) {
  if constexpr (requires { ops.weight_gradient_pair(dy0, dy1, x, dw0, dw1); }) {
    ops.weight_gradient_pair(dy0, dy1, x, dw0, dw1);
  } else {
    ops.weight_gradient(dy0, x, dw0);
    ops.weight_gradient(dy1, x, dw1);
  }
}

struct functor_archetype {
  MOUE_HD void operator()(index_t) const {}
  MOUE_HD void operator()(index_t, index_t) const {}
};

}  // namespace detail

/// Offers the operations described at `detail::archetype_operations`.
template <class O, class C = double>
concept Operations = requires(const O ops, matrix_view<C> m, matrix_view<const C> c, gradient_target<C> target) {
  ops.linear(c, c, m);
  ops.linear(c, c, m, store::add);
  ops.input_gradient(c, c, m);
  ops.input_gradient(c, c, m, store::add);
  ops.weight_gradient(c, c, m);
  ops.weight_gradient(c, c, m, store::assign);
  ops.weight_gradient(c, c, target);
  ops.column_sum(c, m);
  ops.column_sum(c, m, store::assign);
  ops.column_sum(c, target);
  ops.each_row(index_t{}, detail::functor_archetype{});
  ops.each_element(index_t{}, index_t{}, detail::functor_archetype{});
};

}  // namespace moue::inline v0_1
