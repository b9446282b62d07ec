// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The tensors of all experts of one kind, as experts see them.

#include <cstdint>
#include <type_traits>
#include <vector>

#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class...>
inline constexpr bool never = false;

}  // namespace detail

/// One parameter of every expert of a kind: matrices `[rows, cols]` of one shape, found by the expert of a row. Products
/// take it as their weight, so that every row is multiplied with its own expert's; row functors read
/// `w.for_row(i)(row, col)`.
template <class T>
struct grouped_matrix {
  using value_type = std::remove_const_t<T>;

  void* const* of_expert = nullptr;  ///< [experts] first elements; unspecified for experts of other kinds
  vector_view<const std::int32_t> row_expert = {};  ///< [rows of the block]
  index_t rows = 0;                                 ///< of each expert's matrix
  index_t cols = 0;                                 ///< of each expert's matrix
  void* const* on_host = nullptr;                   ///< a copy of `of_expert` that the host may read, if there is one

  /// Of what can be written, an expert may have none: its matrix is empty. Weights are always there.
  MOUE_HD constexpr matrix_view<T> of(index_t expert) const {
    T* const data = static_cast<T*>(of_expert[expert]);
    if constexpr (!std::is_const_v<T>)
      if (data == nullptr) return {nullptr, 0, 0};
    return {data, rows, cols};
  }
  /// The matrix of the expert that row `i` of the block belongs to.
  MOUE_HD constexpr matrix_view<T> for_row(index_t i) const { return of(row_expert[i]); }
  /// Whether the matrices have no elements.
  MOUE_HD constexpr bool empty() const { return rows == 0 || cols == 0; }

  /// Not there: which matrix it would be is not known.
  template <class Row, class Column>
  T& operator()(Row, Column) const {
    static_assert(detail::never<Row, Column>,
                  "moue: the rows of a call belong to several experts, so a row functor reads a weight of row i as "
                  "'p[n].for_row(i)(row, column)', not as 'p[n](row, column)'");
    return *static_cast<T*>(nullptr);
  }
};

namespace detail {

/// Pointers to the tensors of all experts, `[columns, experts]`: a list of the host's, and where the backend reads them.
/// That is the list itself, or scratch of a backend that has memory of its own; what was sent there is not sent twice.
struct pointer_table {
  void** there = nullptr;
  std::vector<void*> sent = {};
};

/// What a run looks up. Not to be copied: two could not both know what was sent to the same memory last.
struct grouped_tables {
  std::int32_t* kind_of = nullptr;  ///< [experts] in a backend's own memory
  bool kinds_sent = false;
  pointer_table weights = {};
  pointer_table gradients = {};
  pointer_table marks = {};  ///< of those gradients

  grouped_tables() = default;
  grouped_tables(grouped_tables&&) = default;
  grouped_tables& operator=(grouped_tables&&) = default;
};

}  // namespace detail
}  // namespace moue::inline v0_1
