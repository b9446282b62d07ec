// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Rows of tokens that are found by index: what experts read.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "moue/lanes.hpp"
#include "moue/operations/shapes.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// A read-only matrix `[rows, cols]` whose row `i` is row `row_token[i]` of `of`, stored as `T` and read as `C`. Products
/// take it where they take a matrix, and look rows up while they load or gather them first, as `cpu` and `cuda` do; row
/// functors read `x(i, j)`. Owns nothing.
template <class T, class C = compute_t<T>>
struct token_rows {
  using stored_type = T;  ///< what the rows are stored as
  using value_type = C;

  matrix_view<const T> of = {};                    ///< [tokens, cols]
  vector_view<const std::int32_t> row_token = {};  ///< [rows], or null: row i is row i of `of`
  index_t rows = 0;                                ///< of the block
  index_t cols = 0;                                ///< of each row

  constexpr token_rows() = default;
  /// Row `i` is row `row_tokens[i]` of `m`.
  MOUE_HD constexpr token_rows(matrix_view<const T> m, vector_view<const std::int32_t> row_tokens)
      : of(m), row_token(row_tokens), rows(row_tokens.size), cols(m.cols) {}
  /// The rows of a matrix as they are.
  MOUE_HD constexpr token_rows(const matrix_view<const T>& m) : of(m), rows(m.rows), cols(m.cols) {}
  MOUE_HD constexpr token_rows(const matrix_view<T>& m) : of(m), rows(m.rows), cols(m.cols) {}

  /// Whether row i is row i of `of`.
  MOUE_HD constexpr bool direct() const { return row_token.data == nullptr; }
  /// The row of `of` that row `i` is.
  MOUE_HD constexpr index_t token(index_t i) const { return direct() ? i : row_token[i]; }
  /// The element, in the type of arithmetic.
  MOUE_HD constexpr C operator()(index_t i, index_t j) const { return static_cast<C>(of(token(i), j)); }
  /// Rows [first, first + count).
  MOUE_HD constexpr token_rows row_block(index_t first, index_t count) const {
    if (direct()) return token_rows(of.row_block(first, count));
    return {of, {row_token.data + first, count}};
  }
  /// Whether there are no elements.
  MOUE_HD constexpr bool empty() const { return rows == 0 || cols == 0; }
};

namespace detail {

/// out(i, :) = rows(i, :), converted.
template <class T, class C>
struct gather_row {
  token_rows<T, C> rows;
  matrix_view<C> out;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const T* const from = rows.of.data + rows.token(i) * rows.of.stride;
    if constexpr (std::is_same_v<T, C> && std::is_same_v<Lanes, one_lane>)
      std::copy_n(from, out.cols, out.data + i * out.stride);
    else
      for (index_t j = lanes.first(); j < out.cols; j += lanes.step()) out(i, j) = static_cast<C>(from[j]);
  }
};

/// What a backend whose products want matrices makes of rows: themselves where they are one of the compute type, or a
/// copy in `room`, which has columns for it.
template <class C, class T>
matrix_view<const C> as_matrix(const auto& ops, const token_rows<T, C>& x, const matrix_view<C>& room) {
  if constexpr (std::is_same_v<T, C>)
    if (x.direct()) return x.of;
  if (room.rows < x.rows || room.cols < x.cols) refuse_room("copies of rows", x.rows, x.cols);
  const matrix_view<C> copy{room.data, x.rows, x.cols, room.stride};
  ops.each_row(x.rows, gather_row<T, C>{x, copy});
  return copy;
}
template <class C>
matrix_view<const C> as_matrix(const auto&, const matrix_view<const C>& x, const matrix_view<C>&) {
  return x;
}
template <class C>
matrix_view<const C> as_matrix(const auto&, const matrix_view<C>& x, const matrix_view<C>&) {
  return x;
}

}  // namespace detail
}  // namespace moue::inline v0_1
