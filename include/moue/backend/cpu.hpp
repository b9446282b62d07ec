// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The CPU backend. The only header of the library that includes Eigen.

#include <Eigen/Core>
#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>

#include "moue/backend.hpp"
#include "moue/backend/cpu/thread_pool.hpp"
#include "moue/error.hpp"

namespace moue {
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

/// Operations by Eigen. Work is cut into blocks whose size depends on shapes alone, and blocks are computed alike
/// whether a pool spreads them or one thread runs them in turn: that is what makes results independent of threads.
template <class C>
class cpu_operations {
 public:
  cpu_operations(thread_pool* pool, vector_view<C> conversion) : pool_(pool), conversion_(conversion) {}

  template <class X, class W>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    if (y.empty()) return;
    const matrix_view<const C> weight = in_compute_type(w);
    const matrix_view<const C> in = x;
    row_blocks(y.rows, y.cols * in.cols, [&](index_t first, index_t rows) {
      const auto a = map(in.row_block(first, rows));
      auto out = map(y.row_block(first, rows));
      const auto b = map(weight);
      if (mode == store::assign) out.setZero();
      if (rows <= few_rows)
        for (index_t i = 0; i < rows; ++i) out.row(i).transpose().noalias() += b * a.row(i).transpose();
      else
        out.noalias() += a * b.transpose();
    });
  }

  template <class DY, class W>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    if (dx.empty()) return;
    const matrix_view<const C> weight = in_compute_type(w);
    const matrix_view<const C> in = dy;
    row_blocks(dx.rows, dx.cols * in.cols, [&](index_t first, index_t rows) {
      const auto a = map(in.row_block(first, rows));
      auto out = map(dx.row_block(first, rows));
      const auto b = map(weight);
      if (mode == store::assign) out.setZero();
      if (rows <= few_rows || tiny(rows, dx.cols, in.cols))
        for (index_t i = 0; i < rows; ++i) out.row(i).noalias() += a.row(i) * b;
      else
        out.noalias() += a * b;
    });
  }

  template <class DY, class X>
  void weight_gradient(const DY& dy, const X& x, const matrix_view<C>& dw) const {
    if (dw.empty() || x.rows == 0) return;
    const matrix_view<const C> g = dy;
    const matrix_view<const C> in = x;
    row_blocks(dw.rows, dw.cols * in.rows, [&](index_t first, index_t rows) {
      const auto a = map(g.column_block(first, rows));
      const auto b = map(in);
      auto out = map(dw.row_block(first, rows));
      if (in.rows <= few_rows || tiny(rows, dw.cols, in.rows))
        for (index_t j = 0; j < rows; ++j)
          for (index_t t = 0; t < in.rows; ++t) out.row(j) += a(t, j) * b.row(t);
      else
        out.noalias() += a.transpose() * b;
    });
  }

  template <class X>
  void column_sum(const X& x, const matrix_view<C>& out) const {
    const matrix_view<const C> in = x;
    for (index_t i = 0; i < in.rows; ++i) map(out).row(0) += map(in).row(i);
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
  static constexpr index_t block_rows = 256;   // of a product: wide enough that packing the weights again is cheap
  static constexpr index_t few_rows = 4;       // up to here Eigen's matrix-vector kernels beat its packed product
  static constexpr index_t element_rows = 64;  // of a row functor
  static constexpr index_t least_products = 1 << 19;  // below this waking the pool costs more than it saves
  static constexpr index_t least_elements = 1 << 15;

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
      const matrix_view<C> wide{conversion_.data, w.rows, w.cols};
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) wide(i, j) = static_cast<C>(w(i, j));
      return wide;
    }
  }

  thread_pool* pool_;
  vector_view<C> conversion_;
};

}  // namespace detail

/// Runs on `threads` threads of its own (none beside the caller's by default), with products by Eigen. Copies share the
/// threads. Results are bit-identical for any number of threads. Eigen takes its packing buffers from the stack or, for
/// blocks over 128 KiB, from the heap; the library itself allocates nothing while a pass runs.
class cpu {
 public:
  cpu() = default;
  /// Throws unless `threads` is at least 1.
  explicit cpu(index_t threads) {
    detail::require(
        threads >= 1, "cpu", [&] { return std::to_string(threads) + " threads were asked for"; }, "ask for at least 1");
    if (threads > 1) pool_ = std::make_shared<detail::thread_pool>(threads);
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

  /// Experts with a large share of the rows run one after another on all threads, the others side by side.
  template <class C, class Body>
  void each_group(const dispatch_plan& plan, matrix_view<C> conversion, const Body& body) const {
    const index_t large = pool_ ? plan.rows() / pool_->size() : plan.rows() + 1;
    const auto is_large = [&](index_t e) { return plan.expert_rows(e) > large; };
    const auto run = [&](index_t e, const detail::cpu_operations<C>& ops) {
      body(ops, e, plan.expert_offsets[e], plan.expert_rows(e));
    };
    for (index_t e = 0; e < plan.experts(); ++e)
      if (is_large(e)) run(e, operations(conversion));
    const auto run_on_one = [&](index_t e, index_t worker) {
      if (plan.expert_rows(e) > 0 && !is_large(e)) run(e, detail::cpu_operations<C>(nullptr, conversion.row(worker)));
    };
    if (pool_)
      pool_->run(plan.experts(), run_on_one);
    else
      for (index_t e = 0; e < plan.experts(); ++e) run_on_one(e, 0);
  }

 private:
  std::shared_ptr<detail::thread_pool> pool_;
};

}  // namespace moue
