// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The reference backend: plain loops over any scalar type. Slow, serial, and the oracle for everything else.

#include <algorithm>
#include <cstdint>

#include "moue/backend.hpp"
#include "moue/backend/blocks.hpp"
#include "moue/operations/shapes.hpp"

namespace moue::inline v0_1 {

/// Operations as triple loops. Sums run in index order.
struct reference_operations {
  static constexpr bool reads_token_rows = true;  ///< products take `token_rows` as they are

  template <class X, class W, class C>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    detail::check_linear(x, w, y, y.rows);
    for (index_t i = 0; i < y.rows; ++i)
      for (index_t j = 0; j < y.cols; ++j) {
        C sum = mode == store::add ? y(i, j) : C(0);
        for (index_t l = 0; l < x.cols; ++l) sum += x(i, l) * static_cast<C>(w(j, l));
        y(i, j) = sum;
      }
  }
  template <class DY, class W, class C>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    detail::check_input_gradient(dy, w, dx, dx.rows);
    for (index_t i = 0; i < dx.rows; ++i)
      for (index_t j = 0; j < dx.cols; ++j) {
        C sum = mode == store::add ? dx(i, j) : C(0);
        for (index_t l = 0; l < dy.cols; ++l) sum += dy(i, l) * static_cast<C>(w(l, j));
        dx(i, j) = sum;
      }
  }
  template <class DY, class X, class C>
  void weight_gradient(const DY& dy, const X& x, const matrix_view<C>& dw, store mode = store::add) const {
    detail::check_weight_gradient(dy, x, dw, x.rows);
    for (index_t i = 0; i < dw.rows; ++i)
      for (index_t j = 0; j < dw.cols; ++j) {
        C sum = mode == store::add ? dw(i, j) : C(0);
        for (index_t t = 0; t < x.rows; ++t) sum += dy(t, i) * x(t, j);
        dw(i, j) = sum;
      }
  }
  template <class DY, class X, class C>
  void weight_gradient(const DY& dy, const X& x, const gradient_target<C>& dw) const {
    detail::write_target(dw, [&](const matrix_view<C>& to, store mode) { weight_gradient(dy, x, to, mode); });
  }
  template <class X, class C>
  void column_sum(const X& x, const matrix_view<C>& out, store mode = store::add) const {
    detail::check_column_sum(x, out, x.rows);
    for (index_t j = 0; j < x.cols; ++j) {
      C sum = mode == store::add ? out(0, j) : C(0);
      for (index_t i = 0; i < x.rows; ++i) sum += x(i, j);
      out(0, j) = sum;
    }
  }
  template <class X, class C>
  void column_sum(const X& x, const gradient_target<C>& out) const {
    detail::write_target(out, [&](const matrix_view<C>& to, store mode) { column_sum(x, to, mode); });
  }
  template <class F>
  void each_row(index_t rows, const F& f) const {
    for (index_t i = 0; i < rows; ++i) f(i);
  }
  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < cols; ++j) f(i, j);
  }
};

/// Blocks one after another on the calling thread, by operations over matrices: `reference_operations`, or those of a
/// user that inherit from them and have something faster.
template <class OperationsT>
struct serial_backend : host_transfers {
  [[no_unique_address]] OperationsT own_operations = {};  ///< what every block runs on

  index_t workers() const { return 1; }
  template <class C>
  OperationsT operations(matrix_view<C>) const {
    return own_operations;
  }
  template <class C>
  void dispatch(const routing<C>& r, dispatch_plan& plan) const {
    make_plan(r, plan);
  }
  template <class S>
  block_needs needs(index_t entries, index_t, index_t) const {
    return {.rows = (std::min)(entries, detail::block_rows)};
  }
  /// Blocks of as many experts as there is room for.
  template <class S, class C, class Body>
  void each_block(const dispatch_plan& plan, index_t, vector_view<const std::int32_t> kinds, index_t,
                  const block_scratch<C>& scratch, const Body& body) const {
    plan_block block;
    index_t of = 0;  // the expert of the block's first row
    const auto run = [&] {
      if (block.rows > 0)
        body(block_operations<OperationsT, C>(own_operations, plan, block, of, scratch.gathered), kinds[of], block);
      block = {block.first + block.rows, 0, 0};
    };
    for (index_t e = 0; e < plan.experts(); ++e) {
      index_t rows = plan.expert_rows(e);
      if (rows == 0) continue;
      if (kinds[e] != kinds[of] || block.rows + rows > detail::block_rows) run();
      if (block.rows == 0) of = e;
      for (; rows > detail::block_rows; rows -= detail::block_rows) {
        block.rows = detail::block_rows;
        run();
      }
      block.rows += rows;
    }
    run();
  }
};

/// Plain loops on the calling thread. Works for `float`, `double`, `long double` and any number type with arithmetic
/// and the elementary functions found by argument-dependent look-up.
struct reference : serial_backend<reference_operations> {};

}  // namespace moue::inline v0_1
