// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The CPU backend. The only header of the library that includes Eigen.

#include <Eigen/Core>
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "moue/backend.hpp"
#include "moue/backend/blocks.hpp"
#include "moue/backend/cpu/any_threads.hpp"
#include "moue/backend/cpu/few_rows.hpp"
#include "moue/backend/cpu/thread_pool.hpp"
#include "moue/backend/host_threads.hpp"
#include "moue/operations/shapes.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class T>
using eigen_map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>,
                       const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                       Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
eigen_map<T> map(const matrix_view<T>& m) {
  return {m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride)};
}

/// out += lhs rhs, with lhs [m, depth] and rhs [depth, n] stored in the orders that the template says, on the calling
/// thread. Eigen's `out += lhs * rhs` takes threads of OpenMP wherever a program is compiled with it: more threads than were
/// asked for, and sums that depend on their number. This is the step below, where Eigen's own BLAS interface enters too.
template <int LhsOrder, int RhsOrder, class C>
[[gnu::always_inline]] inline void add_product(const matrix_view<const C>& lhs, const matrix_view<const C>& rhs,
                                               const matrix_view<C>& out, index_t depth) {
  if (depth == 0) return;
  Eigen::internal::gemm_blocking_space<Eigen::RowMajor, C, C, Eigen::Dynamic, Eigen::Dynamic, Eigen::Dynamic> blocking(
      out.rows, out.cols, depth, 1, true);
  Eigen::internal::general_matrix_matrix_product<Eigen::Index, C, LhsOrder, false, C, RhsOrder, false, Eigen::RowMajor,
                                                 1>::run(out.rows, out.cols, depth, lhs.data, lhs.stride, rhs.data,
                                                         rhs.stride, out.data, 1, out.stride, C(1), blocking);
}

/// Operations by Eigen. Work is cut into blocks whose size depends on shapes alone, and blocks are computed alike
/// whether a pool spreads them or one thread runs them in turn: that is what makes results independent of threads.
template <class C>
class cpu_operations {
 public:
  cpu_operations(any_threads* pool, vector_view<C> conversion) : pool_(pool), conversion_(conversion) {}

  template <class X, class W>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    check_linear(x, w, y, y.rows);
    if (y.empty()) return;
    if (has_vectors<C> && y.rows <= most_few_rows && x.cols >= least_few_rows_depth)
      multiply_few<typename W::value_type>(x, w, y, mode);
    else
      multiply_transposed(x, in_compute_type(w), y, mode);
  }
  template <class DY, class W>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    check_input_gradient(dy, w, dx, dx.rows);
    if (!dx.empty()) multiply(dy, in_compute_type(w), dx, mode);
  }
  template <class DY, class X>
  void weight_gradient(const DY& dy, const X& x, const matrix_view<C>& dw, store mode = store::add) const {
    check_weight_gradient(dy, x, dw, x.rows);
    if (!dw.empty()) multiply_rows(dy, x, dw, mode);
  }
  template <class DY, class X>
  void weight_gradient(const DY& dy, const X& x, const gradient_target<C>& dw) const {
    detail::write_target(dw, [&](const matrix_view<C>& to, store mode) { weight_gradient(dy, x, to, mode); });
  }
  template <class X>
  void column_sum(const X& x, const matrix_view<C>& out, store mode = store::add) const {
    check_column_sum(x, out, x.rows);
    add_rows(x, out, mode);
  }
  template <class X>
  void column_sum(const X& x, const gradient_target<C>& out) const {
    detail::write_target(out, [&](const matrix_view<C>& to, store mode) { column_sum(x, to, mode); });
  }

  template <class F>
  void each_row(index_t rows, const F& f) const {
    blocks(rows, element_rows, rows >= 2 * element_rows, [&](index_t first, index_t count) {
      for (index_t i = first; i < first + count; ++i) f(i);
    });
  }

  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    blocks(rows, element_rows, rows * cols >= least_elements, [&](index_t first, index_t count) {
      for (index_t i = first; i < first + count; ++i)
        for (index_t j = 0; j < cols; ++j) f(i, j);
    });
  }

 private:
  static constexpr index_t block_rows = 256;     // of a product: wide enough that packing the weights again is cheap
  static constexpr index_t block_columns = 192;  // of a product of few rows: a multiple of every tile
  static constexpr index_t vector_rows = 4;      // up to here Eigen's matrix-vector kernels beat its packed product
  static constexpr index_t element_rows = 64;    // of a row functor
  static constexpr index_t least_products = 1 << 19;  // below this waking the pool costs more than it saves
  static constexpr index_t least_elements = 1 << 15;

  // Of one type each, whatever the views that they were called with: a fraction of the functions.

  template <class S>
  void multiply_few(const matrix_view<const C>& in, const matrix_view<const S>& weight, const matrix_view<C>& y,
                    store mode) const {
    if constexpr (has_vectors<C>)
      blocks(y.cols, block_columns, y.rows * y.cols * in.cols >= least_products, [&](index_t first, index_t columns) {
        few_rows_linear(in, weight.row_block(first, columns), y.column_block(first, columns), mode);
      });
  }
  void multiply_transposed(const matrix_view<const C>& in, const matrix_view<const C>& weight, const matrix_view<C>& y,
                           store mode) const {
    row_blocks(y.rows, y.cols * in.cols, [&](index_t first, index_t rows) {
      const auto a = map(in.row_block(first, rows));
      auto out = map(y.row_block(first, rows));
      const auto b = map(weight);
      if (mode == store::assign) out.setZero();
      if (rows <= vector_rows)
        for (index_t i = 0; i < rows; ++i) out.row(i).transpose().noalias() += b * a.row(i).transpose();
      else if (y.cols == 1 || tiny(rows, y.cols, in.cols))
        out.noalias() += a * b.transpose();
      else
        add_product<Eigen::RowMajor, Eigen::ColMajor>(in.row_block(first, rows), weight, y.row_block(first, rows),
                                                      in.cols);
    });
  }
  void multiply(const matrix_view<const C>& in, const matrix_view<const C>& weight, const matrix_view<C>& dx,
                store mode) const {
    row_blocks(dx.rows, dx.cols * in.cols, [&](index_t first, index_t rows) {
      const auto a = map(in.row_block(first, rows));
      auto out = map(dx.row_block(first, rows));
      const auto b = map(weight);
      if (mode == store::assign) out.setZero();
      if (rows <= vector_rows || tiny(rows, dx.cols, in.cols))
        for (index_t i = 0; i < rows; ++i) out.row(i).noalias() += a.row(i) * b;
      else if (dx.cols == 1)
        out.col(0).noalias() += a * b.col(0);
      else
        add_product<Eigen::RowMajor, Eigen::RowMajor>(in.row_block(first, rows), weight, dx.row_block(first, rows),
                                                      in.cols);
    });
  }
  void multiply_rows(const matrix_view<const C>& g, const matrix_view<const C>& in, const matrix_view<C>& dw,
                     store mode) const {
    if (in.rows == 0 && mode == store::add) return;
    row_blocks(dw.rows, dw.cols * in.rows, [&](index_t first, index_t rows) {
      const auto a = map(g.column_block(first, rows));
      const auto b = map(in);
      auto out = map(dw.row_block(first, rows));
      if (mode == store::assign) out.setZero();
      if (in.rows == 0) return;
      if (in.rows <= vector_rows || tiny(rows, dw.cols, in.rows))
        for (index_t j = 0; j < rows; ++j)
          for (index_t t = 0; t < in.rows; ++t) out.row(j) += a(t, j) * b.row(t);
      else if (dw.cols == 1)
        out.col(0).noalias() += a.transpose() * b.col(0);
      else if (rows == 1)
        out.row(0).noalias() += a.transpose().row(0) * b;
      else
        add_product<Eigen::ColMajor, Eigen::RowMajor>(g.column_block(first, rows), in, dw.row_block(first, rows),
                                                      in.rows);
    });
  }
  void add_rows(const matrix_view<const C>& in, const matrix_view<C>& out, store mode) const {
    if (mode == store::assign && !out.empty()) map(out).row(0).setZero();
    for (index_t i = 0; i < in.rows; ++i) map(out).row(0) += map(in).row(i);
  }

  /// Whether Eigen would compute a product entry by entry: with fused multiply-add, entries then round by their alignment.
  static bool tiny(index_t rows, index_t cols, index_t depth) { return rows + cols + depth < 20; }

  template <class F>
  void row_blocks(index_t rows, index_t cost_per_row, const F& f) const {
    blocks(rows, block_rows, rows * cost_per_row >= least_products, f);
  }

  template <class F>
  void blocks(index_t rows, index_t block, bool worthwhile, const F& f) const {
    const index_t count = (rows + block - 1) / block;
    const auto one = [&](index_t i) { f(i * block, (std::min)(block, rows - i * block)); };
    if (pool_ != nullptr && worthwhile && count > 1)
      pool_->run(count, [&](index_t i, index_t) { one(i); });
    else
      for (index_t i = 0; i < count; ++i) one(i);
  }

  template <class W>
  matrix_view<const C> in_compute_type(const W& w) const {
    if constexpr (std::is_same_v<typename W::value_type, C>) {
      return w;
    } else {
      if (w.rows * w.cols > conversion_.size) refuse_room("a weight", w.rows, w.cols);
      const matrix_view<C> wide{conversion_.data, w.rows, w.cols};
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) wide(i, j) = static_cast<C>(w(i, j));
      return wide;
    }
  }

  any_threads* pool_;
  vector_view<C> conversion_;
};

}  // namespace detail

/// Runs on the caller's thread, on threads of its own or on the host's, with products by Eigen. Copies share the threads.
/// Results are bit-identical for any number and kind of threads. A run that starts inside a task of another is done by the
/// thread that starts it. Eigen takes its packing buffers from the stack or, for blocks over 128 KiB, from the heap; the
/// library itself allocates nothing while a pass runs, but for the first run on threads of its own, which makes them.
class cpu : public host_transfers {
 public:
  cpu() = default;
  /// `threads` in all, the caller's among them. The others are made by the first run that has work for them, in a forked
  /// child by its first, and end with the last copy. Throws unless `threads` is at least 1; a run throws `moue::error` if
  /// they cannot be made.
  explicit cpu(index_t threads) : pool_(std::make_shared<detail::thread_pool>(threads)) {}
  /// On threads of the host, see `HostThreads`: `cpu{pool}` refers to a pool, which must outlive all copies of the
  /// backend, and `cpu{handle()}` keeps what it is given. Their `size()` is asked for once, here.
  template <class P>
    requires(!std::convertible_to<P, index_t> && !std::same_as<std::remove_cvref_t<P>, cpu>)
  explicit cpu(P&& threads) {
    if constexpr (check_host_threads<std::remove_reference_t<P>>())
      pool_ = std::make_shared<detail::threads_of<P>>(std::forward<P>(threads));
  }

  index_t workers() const { return pool_ ? pool_->size() : 1; }

  template <class C>
  detail::cpu_operations<C> operations(matrix_view<C> conversion) const {
    return {pool_.get(), conversion.row(0)};
  }

  template <class C>
  void dispatch(const routing<C>& r, dispatch_plan& plan) const {
    make_plan(r, plan);
  }

  /// An expert with many rows may want all threads at once, the others run side by side: rows for both.
  template <class S>
  block_needs needs(index_t entries, index_t, index_t largest) const {
    using C = compute_t<S>;
    return {.rows = workers() * rows_of_worker(entries),
            .gathers = true,
            .converted = std::is_same_v<S, C> ? 0 : detail::padded(largest)};
  }

  /// Experts with a large share of the rows run one after another on all threads, the others side by side.
  template <class S, class C, class Body>
  void each_block(const dispatch_plan& plan, index_t, vector_view<const std::int32_t> kinds, index_t,
                  const block_scratch<C>& scratch, const Body& body) const {
    const index_t own_rows = scratch.gathered.rows / workers();
    const index_t large = pool_ ? plan.rows() / pool_->size() : plan.rows() + 1;
    const auto is_large = [&](index_t e) { return plan.expert_rows(e) > large; };
    const auto run = [&](index_t e, index_t worker, const detail::cpu_operations<C>& ops) {
      for (index_t at = plan.expert_offsets[e], end = plan.expert_offsets[e + 1]; at < end; at += detail::block_rows) {
        const plan_block block{at, (std::min)(end - at, detail::block_rows), worker * own_rows};
        body(block_operations<detail::cpu_operations<C>, C>(ops, plan, block, e,
                                                            scratch.gathered.row_block(block.scratch, block.rows)),
             kinds[e], block);
      }
    };
    for (index_t e = 0; pool_ && e < plan.experts(); ++e)
      if (is_large(e)) run(e, 0, operations(scratch.conversion));
    const auto run_on_one = [&](index_t e, index_t worker) {
      if (!is_large(e)) run(e, worker, detail::cpu_operations<C>(nullptr, scratch.conversion.row(worker)));
    };
    if (pool_)
      pool_->run(plan.experts(), run_on_one);
    else
      for (index_t e = 0; e < plan.experts(); ++e) run_on_one(e, 0);
  }

 private:
  index_t rows_of_worker(index_t entries) const {
    return (std::min)((entries + workers() - 1) / workers(), detail::block_rows);
  }

  std::shared_ptr<detail::any_threads> pool_;
};

}  // namespace moue::inline v0_1
