// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The bulk operations on a device: over a whole batch, and over the rows of all experts of one kind.

#include <concepts>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "moue/backend.hpp"
#include "moue/backend/cuda/products.cuh"
#include "moue/backend/cuda/rows.cuh"
#include "moue/backend/cuda/runtime.cuh"
#include "moue/backend/cuda/segments.cuh"
#include "moue/dispatch.hpp"
#include "moue/grouped.hpp"
#include "moue/operations.hpp"
#include "moue/operations/shapes.hpp"
#include "moue/token_rows.hpp"

namespace moue::inline v0_1::detail::gpu {

template <class S>
matrix_view<const S> read_only(const matrix_view<S>& w) {
  return w;
}
template <class S>
grouped_matrix<S> read_only(const grouped_matrix<S>& w) {
  return w;
}

/// Row and column of an element, counted along rows. Divisions in 32 bits cost a fraction of those in 64.
struct element_place {
  index_t row, column;

  MOUE_HD static element_place of(index_t i, index_t cols, bool narrow) {
    if (narrow) {
      const auto at = static_cast<std::uint32_t>(i), width = static_cast<std::uint32_t>(cols);
      return {at / width, at % width};
    }
    return {i / cols, i % cols};
  }
  static bool fits(index_t rows, index_t cols) { return rows * cols <= (std::numeric_limits<std::int32_t>::max)(); }
};

/// f(row, column) for the element at `i`.
template <class F>
struct run_element {
  F f;
  index_t cols;
  bool narrow;
  MOUE_HD void operator()(index_t i) const {
    const auto at = element_place::of(i, cols, narrow);
    f(at.row, at.column);
  }
};

/// Which rows of a plan belong to experts of a kind.
struct rows_of_kind {
  const index_t* count;  // rows of the plan
  const std::int32_t* row_expert;
  const std::int32_t* kinds;
  std::int32_t kind;
  MOUE_HD bool has(index_t row) const { return row < *count && kinds[row_expert[row]] == kind; }
};

template <class F>
struct run_row_of_kind {
  F f;
  rows_of_kind rows;
  MOUE_HD void operator()(index_t i) const {
    if (rows.has(i)) f(i);
  }
};

template <class F>
struct run_element_of_kind {
  F f;
  rows_of_kind rows;
  index_t cols;
  bool narrow;
  MOUE_HD void operator()(index_t i) const {
    const auto at = element_place::of(i, cols, narrow);
    if (rows.has(at.row)) f(at.row, at.column);
  }
};

/// Over a whole batch.
template <class RuntimeT>
class operations {
 public:
  explicit operations(const RuntimeT& runtime) : runtime_(runtime) {}

  template <class X, class W, class C>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    check_linear(x, w, y, y.rows);
    gpu::linear(runtime_, one_segment(y.rows), matrix_view<const C>(x), read_only(w), y, mode);
  }
  template <class DY, class W, class C>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    check_input_gradient(dy, w, dx, dx.rows);
    gpu::input_gradient(runtime_, one_segment(dx.rows), matrix_view<const C>(dy), read_only(w), dx, mode);
  }
  template <class DY, class X, class DW, std::same_as<store>... Mode>
  void weight_gradient(const DY& dy, const X& x, const DW& dw, Mode... mode) const {
    using C = typename DW::value_type;
    if (dw.empty()) return;
    check_weight_gradient(dy, x, dw, x.rows);
    gpu::weight_gradient(runtime_, one_segment(x.rows), matrix_view<const C>(dy), matrix_view<const C>(x), dw, mode...);
  }
  template <class X, class Out, std::same_as<store>... Mode>
  void column_sum(const X& x, const Out& out, Mode... mode) const {
    if (out.empty()) return;
    check_column_sum(x, out, x.rows);
    gpu::column_sum(runtime_, one_segment(x.rows), matrix_view<const typename Out::value_type>(x), out, mode...);
  }
  template <class F>
  void each_row(index_t rows, const F& f) const {
    if constexpr (takes_lanes<F>)
      gpu::each_row_by_lanes(runtime_, rows, f, all_rows());
    else
      gpu::for_each(runtime_, rows, f);
  }
  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    gpu::for_each(runtime_, rows * cols, run_element<F>{f, cols, element_place::fits(rows, cols)});
  }

 private:
  RuntimeT runtime_;
};

/// Over the rows of all experts of one kind, whose weights are stored as `S`. `rows` is a capacity: how many there are
/// only the device knows, unless products of groups are to go to cuBLAS; then making this waits for it. Rows of tokens are
/// gathered in `gathered` before they are multiplied.
template <class RuntimeT, class S, class C>
class group_operations {
 public:
  group_operations(const RuntimeT& runtime, const dispatch_plan& plan, const vector_view<const std::int32_t>& kinds,
                   std::int32_t kind, index_t rows, const matrix_view<C>& gathered)
      : runtime_(runtime), plan_(plan), kinds_(kinds.data), kind_(kind), rows_(rows), gathered_(gathered) {
    if (!choice_of(runtime).expert_blas) return;
    host_ = std::make_shared<host_groups>();
    host_->kind = kind;
    fetch(plan.expert_offsets.data, plan.experts() + 1, host_->offsets);
    fetch(kinds.data, kinds.size, host_->kinds);
  }

  template <class X, class W>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    check_linear(x, w, y, rows_);
    gpu::linear(runtime_, groups(y.rows), factor(x, 0), read_only(w), y, mode);
  }
  template <class DY, class W>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    check_input_gradient(dy, w, dx, rows_);
    gpu::input_gradient(runtime_, groups(dx.rows), factor(dy, 0), read_only(w), dx, mode);
  }
  template <class DY, class X, class DW, std::same_as<store>... Mode>
  void weight_gradient(const DY& dy, const X& x, const DW& dw, Mode... mode) const {
    if (dw.empty()) return;
    check_weight_gradient(dy, x, dw, rows_);
    gpu::weight_gradient<rounded>(runtime_, groups(x.rows), factor(dy, 1), factor(x, 0), dw, mode...);
  }
  /// As `detail::linear_pair` and its like want them.
  template <class X, class W>
  void linear_pair(const X& x, const W& w0, const W& w1, const matrix_view<C>& y0, const matrix_view<C>& y1) const {
    check_linear(x, w0, y0, rows_);
    check_linear(x, w1, y1, rows_);
    gpu::linear_pair(runtime_, groups(y0.rows), factor(x, 0), read_only(w0), read_only(w1), y0, y1);
  }
  template <class DY, class W>
  void input_gradient_pair(const DY& dy0, const W& w0, const DY& dy1, const W& w1, const matrix_view<C>& dx) const {
    check_input_gradient(dy0, w0, dx, rows_);
    check_input_gradient(dy1, w1, dx, rows_);
    gpu::input_gradient_pair(runtime_, groups(dx.rows), factor(dy0, 0), read_only(w0), factor(dy1, 1), read_only(w1),
                             dx);
  }
  template <class DY, class X, class DW>
  void weight_gradient_pair(const DY& dy0, const DY& dy1, const X& x, const DW& dw0, const DW& dw1) const {
    if (dw0.empty() && dw1.empty()) return;
    if (!dw0.empty()) check_weight_gradient(dy0, x, dw0, rows_);
    if (!dw1.empty()) check_weight_gradient(dy1, x, dw1, rows_);
    const matrix_view<const C> in = factor(x, 0);
    if constexpr (std::is_convertible_v<DY, matrix_view<const C>>) {
      gpu::weight_gradient_pair<rounded>(runtime_, groups(x.rows), matrix_view<const C>(dy0), matrix_view<const C>(dy1),
                                         in, dw0, dw1);
    } else {  // room for one more, not for two
      weight_gradient(dy0, in, dw0);
      weight_gradient(dy1, in, dw1);
    }
  }
  template <class X, class Out, std::same_as<store>... Mode>
  void column_sum(const X& x, const Out& out, Mode... mode) const {
    if (out.empty()) return;
    check_column_sum(x, out, rows_);
    gpu::column_sum(runtime_, groups(x.rows), factor(x, 0), out, mode...);
  }
  template <class F>
  void each_row(index_t rows, const F& f) const {
    if constexpr (takes_lanes<F>)
      gpu::each_row_by_lanes(runtime_, rows, f, taking_part());
    else
      gpu::for_each(runtime_, rows, run_row_of_kind<F>{f, taking_part()});
  }
  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    gpu::for_each(runtime_, rows * cols,
                  run_element_of_kind<F>{f, taking_part(), cols, element_place::fits(rows, cols)});
  }

 private:
  /// What tensor cores round both factors of a weight gradient to. Their products with weights have no choice; these do,
  /// and gradients leave the range of half sooner than they miss the digits that bf16 lacks.
  using rounded = std::conditional_t<std::is_same_v<S, half>, bf16, S>;

  /// What a product reads. `place` tells apart what may be gathered at once.
  template <class X>
  matrix_view<const C> factor(const X& x, index_t place) const {
    return as_matrix(*this, x, room_for(gathered_, x.cols, place));
  }
  segments groups(index_t capacity) const {
    return {plan_.expert_offsets.data, plan_.experts(), kinds_, kind_, capacity, host_.get()};
  }
  template <class T>
  void fetch(const T* from, index_t count, std::vector<T>& to) const {
    to.resize(static_cast<std::size_t>(count));
    if (count > 0) runtime_.download(from, to.data(), to.size() * sizeof(T));
  }
  rows_of_kind taking_part() const {
    return {plan_.expert_offsets.data + plan_.experts(), plan_.row_expert.data, kinds_, kind_};
  }

  RuntimeT runtime_;
  dispatch_plan plan_;
  const std::int32_t* kinds_;
  std::int32_t kind_;
  index_t rows_;
  matrix_view<C> gathered_;
  std::shared_ptr<host_groups> host_;
};

}  // namespace moue::inline v0_1::detail::gpu
