// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What backends that work on the host's memory share: operations over a block of a plan, made from those over matrices.

#include <algorithm>
#include <concepts>
#include <span>
#include <type_traits>
#include <utility>

#include "moue/backend.hpp"
#include "moue/gradients/targets.hpp"
#include "moue/operations/shapes.hpp"
#include "moue/token_rows.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// Rows that an expert is cut after. Enough for products to run at full speed and to be shared by several threads; so few
/// that what an expert computes on the way stays small.
inline constexpr index_t block_rows = 2048;

template <class T>
inline constexpr bool is_grouped_matrix = false;
template <class T>
inline constexpr bool is_grouped_matrix<grouped_matrix<T>> = true;

/// Whether products of `Operations` take rows of tokens as they are; if not, those are gathered before.
template <class Operations>
inline constexpr bool reads_token_rows = requires {
  Operations::reads_token_rows;
};
/// What they get in place of a block's factor, and of its weight.
template <class Operations, class X, class C>
using own_factor = std::conditional_t<reads_token_rows<Operations>, X, matrix_view<const C>>;
template <class W>
using own_weight = decltype(std::declval<const W&>().for_row(0));

}  // namespace detail

/// The operations over a block of a plan that the host can read, by `Inner`'s over the rows of each of its experts. Where
/// `gathered` has columns, rows of tokens are copied there before `Inner` multiplies them; else `Inner` takes them as they
/// are. Cheap to make, and not to be kept beyond the call that it was made for.
template <class Inner, class C>
class block_operations {
 public:
  /// `expert` is that of the block's first row; `gathered` the block's part of the scratch.
  block_operations(Inner inner, const dispatch_plan& plan, const plan_block& at, index_t expert,
                   const matrix_view<C>& gathered)
      : inner_(std::move(inner)),
        plan_(&plan),
        first_(at.first),
        last_(at.first + at.rows),
        expert_(expert),
        gathered_(gathered) {}

  template <class X, class W>
  void linear(const X& x, const W& w, const matrix_view<C>& y, store mode = store::assign) const {
    detail::check_linear(x, w, y, last_ - first_);
    const auto in = factor(x, 0);
    each_part([&](index_t first, index_t rows,
                  const auto& own) { inner_.linear(in.row_block(first, rows), own, y.row_block(first, rows), mode); },
              w);
  }
  template <class DY, class W>
  void input_gradient(const DY& dy, const W& w, const matrix_view<C>& dx, store mode = store::assign) const {
    detail::check_input_gradient(dy, w, dx, last_ - first_);
    const auto in = factor(dy, 0);
    each_part(
        [&](index_t first, index_t rows, const auto& own) {
          inner_.input_gradient(in.row_block(first, rows), own, dx.row_block(first, rows), mode);
        },
        w);
  }
  /// `dw`: targets or matrices, of every expert or one for all; matrices come with a mode.
  template <class DY, class X, class DW, std::same_as<store>... Mode>
  void weight_gradient(const DY& dy, const X& x, const DW& dw, Mode... mode) const {
    if (dw.empty()) return;
    detail::check_weight_gradient(dy, x, dw, last_ - first_);
    const auto out = factor(dy, 1);
    const auto in = factor(x, 0);
    each_written(
        dw,
        [&](const auto& own, index_t first, index_t rows, auto... how) {
          inner_.weight_gradient(out.row_block(first, rows), in.row_block(first, rows), own, how...);
        },
        mode...);
  }
  template <class X, class Out, std::same_as<store>... Mode>
  void column_sum(const X& x, const Out& out, Mode... mode) const {
    if (out.empty()) return;
    detail::check_column_sum(x, out, last_ - first_);
    const auto in = factor(x, 0);
    each_written(
        out,
        [&](const auto& own, index_t first, index_t rows, auto... how) {
          inner_.column_sum(in.row_block(first, rows), own, how...);
        },
        mode...);
  }

  /// As `detail::linear_pair` and `detail::weight_gradient_pair` want them: x is gathered once.
  template <class X, class W>
  void linear_pair(const X& x, const W& w0, const W& w1, const matrix_view<C>& y0, const matrix_view<C>& y1) const {
    const auto in = factor(x, 0);
    linear(in, w0, y0);
    linear(in, w1, y1);
  }
  template <class DY, class X, class DW>
  void weight_gradient_pair(const DY& dy0, const DY& dy1, const X& x, const DW& dw0, const DW& dw1) const {
    if (dw0.empty() && dw1.empty()) return;
    const auto in = factor(x, 0);
    weight_gradient(dy0, in, dw0);
    weight_gradient(dy1, in, dw1);
  }

  /// Those of `moue/operations/gated_linear.hpp`, where `Inner` has them.
  template <class X, class W, class A>
    requires requires(const Inner& inner, detail::own_factor<Inner, X, C> in, detail::own_weight<W> w, const A& a,
                      matrix_view<C> m) {
      inner.gated_linear(in, w, w, a, m, m, m);
    }
  void gated_linear(const X& x, const W& w_gate, const W& w_up, const A& activation, const matrix_view<C>& gate,
                    const matrix_view<C>& up, const matrix_view<C>& h) const {
    const auto in = factor(x, 0);
    each_part(
        [&](index_t first, index_t rows, const auto& own_gate, const auto& own_up) {
          inner_.gated_linear(in.row_block(first, rows), own_gate, own_up, activation, gate.row_block(first, rows),
                              up.row_block(first, rows), h.row_block(first, rows));
        },
        w_gate, w_up);
  }
  /// The backward of `gated_linear`, there if the operations inside have one.
  template <class DY, class W, class A>
    requires requires(const Inner& inner, detail::own_factor<Inner, DY, C> in, detail::own_weight<W> w, const A& a,
                      matrix_view<const C> c, vector_view<const C> s, matrix_view<C> m, vector_view<C> v) {
      inner.gated_linear_backward(in, w, a, c, c, s, m, m, m, v);
    }
  void gated_linear_backward(const DY& dy, const W& w_down, const A& activation, const matrix_view<const C>& gate,
                             const matrix_view<const C>& up, const vector_view<const C>& scale, const matrix_view<C>& h,
                             const matrix_view<C>& dgate, const matrix_view<C>& dup,
                             const vector_view<C>& dscale) const {
    const auto in = factor(dy, 0);
    each_part(
        [&](index_t first, index_t rows, const auto& own) {
          inner_.gated_linear_backward(in.row_block(first, rows), own, activation, gate.row_block(first, rows),
                                       up.row_block(first, rows), vector_view<const C>{scale.data + first, rows},
                                       h.row_block(first, rows), dgate.row_block(first, rows),
                                       dup.row_block(first, rows), vector_view<C>{dscale.data + first, rows});
        },
        w_down);
  }

  template <class F>
  void each_row(index_t rows, const F& f) const {
    inner_.each_row(rows, f);
  }
  template <class F>
  void each_element(index_t rows, index_t cols, const F& f) const {
    inner_.each_element(rows, cols, f);
  }

 private:
  /// What a product reads. `place` tells apart what may be gathered at once.
  template <class X>
  auto factor(const X& x, index_t place) const {
    if constexpr (detail::reads_token_rows<Inner>) {
      return x;
    } else {
      return detail::as_matrix(inner_, x, detail::room_for(gathered_, x.cols, place));
    }
  }

  /// f(expert, first row, rows) for every expert of the block that has rows.
  template <class F>
  void each_expert(const F& f) const {
    index_t expert = expert_;
    for (index_t row = first_; row < last_; ++expert) {
      const index_t end = (std::min)(plan_->expert_offsets[expert + 1], last_);
      if (end > row) f(expert, row - first_, end - row);
      row = (std::max)(row, end);
    }
  }
  /// f(first row, rows, matrices...) for every expert, or once for all rows where `w` are single matrices.
  template <class F, class... W>
  void each_part(const F& f, const W&... w) const {
    if constexpr ((detail::is_grouped_matrix<W> && ...))
      each_expert([&](index_t expert, index_t first, index_t rows) { f(first, rows, w.of(expert)...); });
    else
      f(index_t{0}, last_ - first_, w...);
  }
  /// The same for what is written: f(matrix, first row, rows, mode).
  template <class DW, class F, class... Mode>
  void each_written(const DW& dw, const F& f, Mode... mode) const {
    if constexpr (std::is_same_v<DW, grouped_target<C>>) {
      each_expert([&](index_t expert, index_t first, index_t rows) {
        if (const auto own = dw.of(expert); !own.empty()) f(own, first, rows, dw.mode(expert));
      });
      dw.set_written();
    } else {
      each_part([&](index_t first, index_t rows, const auto& own) { f(own, first, rows, mode...); }, dw);
    }
  }

  Inner inner_;
  const dispatch_plan* plan_;
  index_t first_, last_;
  index_t expert_;
  matrix_view<C> gathered_;
};

/// Host memory is the backend's: the transfers are copies.
struct host_transfers {
  template <class T>
  void upload(std::span<const T> from, T* to) const {
    std::copy(from.begin(), from.end(), to);
  }
  template <class T>
  void download(const T* from, std::span<T> to) const {
    std::copy_n(from, to.size(), to.begin());
  }
};

}  // namespace moue::inline v0_1
