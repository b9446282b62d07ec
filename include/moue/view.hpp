// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Pointer-and-shape views: the only form in which tensors enter and leave the library.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "moue/config.hpp"

namespace moue::inline v0_1 {

/// Sizes and positions. Signed, so that loops may count down and differences are safe.
using index_t = std::ptrdiff_t;

namespace detail {

/// `value` as another type of integer, which it fits. A cast written out would be called useless on machines where the two
/// types are one.
template <class To, class From>
MOUE_HD constexpr To integer(From value) {
  return static_cast<To>(value);
}

}  // namespace detail

/// A contiguous run of `size` elements; owns nothing.
template <class T>
struct vector_view {
  T* data = nullptr;  ///< first element
  index_t size = 0;   ///< elements

  /// Element `i`, unchecked.
  MOUE_HD constexpr T& operator[](index_t i) const { return data[i]; }
  /// The first element.
  MOUE_HD constexpr T* begin() const { return data; }
  /// Past the last element.
  MOUE_HD constexpr T* end() const { return data + size; }
  /// A template, since nvcc warns of a conversion to the type itself where `T` is const.
  template <class U>
    requires(!std::is_const_v<T> && std::is_same_v<U, const T>)
  MOUE_HD constexpr operator vector_view<U>() const { return {data, size}; }
};

/// A row-major `[rows, cols]` matrix whose rows start `stride` elements apart; owns nothing.
template <class T>
struct matrix_view {
  using value_type = std::remove_const_t<T>;

  T* data = nullptr;   ///< first element
  index_t rows = 0;    ///< of the matrix
  index_t cols = 0;    ///< of the matrix
  index_t stride = 0;  ///< elements from one row to the next

  constexpr matrix_view() = default;
  /// Rows that follow each other without a gap.
  MOUE_HD constexpr matrix_view(T* d, index_t r, index_t c) : data(d), rows(r), cols(c), stride(c) {}
  /// Rows that start `s` elements apart.
  MOUE_HD constexpr matrix_view(T* d, index_t r, index_t c, index_t s) : data(d), rows(r), cols(c), stride(s) {}

  /// Element (i, j), unchecked.
  MOUE_HD constexpr T& operator()(index_t i, index_t j) const { return data[i * stride + j]; }
  /// Row `i`, unchecked.
  MOUE_HD constexpr vector_view<T> row(index_t i) const { return {data + i * stride, cols}; }
  /// Rows [first, first + count).
  MOUE_HD constexpr matrix_view row_block(index_t first, index_t count) const {
    return {moved(first * stride), count, cols, stride};
  }
  /// Columns [first, first + count) of all rows.
  MOUE_HD constexpr matrix_view column_block(index_t first, index_t count) const {
    return {moved(first), rows, count, stride};
  }
  /// The matrix that belongs to row `i` of a group program. On backends that run one expert at a time this is the
  /// matrix itself; a backend that runs all experts at once looks the row's expert up. Row functors call it on weights.
  MOUE_HD constexpr matrix_view for_row(index_t) const { return *this; }
  /// Whether there are no elements.
  MOUE_HD constexpr bool empty() const { return rows == 0 || cols == 0; }
  /// The same, to be read.
  template <class U>
    requires(!std::is_const_v<T> && std::is_same_v<U, const T>)
  MOUE_HD constexpr operator matrix_view<U>() const { return {data, rows, cols, stride}; }

 private:
  /// Nothing may be added to null, which an empty matrix may be.
  MOUE_HD constexpr T* moved(index_t elements) const { return data == nullptr ? data : data + elements; }
};

}  // namespace moue::inline v0_1
