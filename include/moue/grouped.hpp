// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// All experts of one kind at once: how a backend that cannot afford a program per expert hands out their tensors.

#include <cstdint>
#include <type_traits>
#include <vector>

#include "moue/view.hpp"

namespace moue {

/// One parameter of every expert of a kind: matrices `[rows, cols]` of one shape, found by the expert of a row. Stands
/// where a `matrix_view` of a single expert would, in products and in row functors that call `for_row`.
template <class T>
struct grouped_matrix {
  using value_type = std::remove_const_t<T>;

  void* const* of_expert = nullptr;  ///< [experts] first elements; unspecified for experts of other kinds
  vector_view<const std::int32_t> row_expert = {};  ///< [rows of the plan]
  index_t rows = 0;
  index_t cols = 0;
  void* const* on_host = nullptr;  ///< a copy of `of_expert` that the host may read, if there is one

  /// Of what can be written, an expert may have none: its matrix is empty. Weights are always there.
  MOUE_HD constexpr matrix_view<T> of(index_t expert) const {
    T* const data = static_cast<T*>(of_expert[expert]);
    if constexpr (!std::is_const_v<T>)
      if (data == nullptr) return {nullptr, 0, 0};
    return {data, rows, cols};
  }
  MOUE_HD constexpr matrix_view<T> for_row(index_t i) const { return of(row_expert[i]); }
  MOUE_HD constexpr bool empty() const { return rows == 0 || cols == 0; }
};

namespace detail {

/// Pointers to the tensors of all experts in a backend's memory, `[columns, experts]`, and a copy of what was sent there,
/// so that nothing is sent twice.
struct pointer_table {
  vector_view<void*> there = {};
  std::vector<void*> sent = {};
};

/// What a grouped run looks up; without elements on other backends. Not to be copied: two could not both know what was
/// sent to the same memory last.
struct grouped_tables {
  vector_view<std::int32_t> kind_of = {};  ///< [experts]
  bool kinds_sent = false;
  pointer_table weights = {};
  pointer_table gradients = {};
  pointer_table marks = {};  ///< of those gradients

  grouped_tables() = default;
  grouped_tables(grouped_tables&&) = default;
  grouped_tables& operator=(grouped_tables&&) = default;
};

}  // namespace detail
}  // namespace moue
