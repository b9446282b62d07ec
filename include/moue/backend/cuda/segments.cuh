// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The rows that a grouped product runs over, whose division into groups only the device knows.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "moue/gradients/targets.hpp"
#include "moue/grouped.hpp"
#include "moue/store.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail::gpu {

/// A division into groups as the host sees it, which has to wait for the device to see one. Only what needs the number of
/// rows on the host, as cuBLAS does, needs it.
struct host_groups {
  std::vector<index_t> offsets = {};     ///< [groups + 1]
  std::vector<std::int32_t> kinds = {};  ///< [groups], or empty: all groups take part
  std::int32_t kind = 0;

  /// f(group, first row, rows) for every group that takes part and has rows.
  template <class F>
  void each(const F& f) const {
    for (std::size_t g = 0; g + 1 < offsets.size(); ++g)
      if (offsets[g + 1] > offsets[g] && (kinds.empty() || kinds[g] == kind))
        f(g, offsets[g], offsets[g + 1] - offsets[g]);
  }
};

/// Rows [offsets[g], offsets[g+1]) belong to group g; only groups whose kinds[g] == kind take part. The arrays lie on
/// the device. Without offsets all rows, [0, capacity), are one group.
struct segments {
  const index_t* offsets = nullptr;  ///< [groups + 1], ascending from 0 to at most `capacity`
  index_t groups = 0;
  const std::int32_t* kinds = nullptr;  ///< [groups], or null: all groups take part
  std::int32_t kind = 0;
  index_t capacity = 0;               ///< rows at most, known to the host
  const host_groups* host = nullptr;  ///< the same division, where a caller has fetched it

  bool empty() const { return groups <= 0 || capacity <= 0; }
};

/// All of `rows` rows as one group.
inline segments one_segment(index_t rows) { return {nullptr, 1, nullptr, 0, rows, nullptr}; }

/// A weight or gradient of every group, or one matrix for all of them: one type for kernels to be compiled for.
template <class T>
struct weight_table {
  void* const* of_group;  // null: `dense` serves every group
  T* dense;
  index_t rows;
  index_t cols;
  index_t stride;
  void* const* on_host = nullptr;  // a copy of `of_group` that the host may read, where there is one

  MOUE_HD T* of(index_t group) const { return of_group != nullptr ? static_cast<T*>(of_group[group]) : dense; }
  MOUE_HD bool empty() const { return rows == 0 || cols == 0; }
  /// The one that serves every group; without data where each has its own.
  matrix_view<T> matrix() const { return {dense, rows, cols, stride}; }
};

template <class T>
weight_table<T> table_of(const grouped_matrix<T>& w) {
  return {w.of_expert, nullptr, w.rows, w.cols, w.cols, w.on_host};
}
template <class T>
weight_table<T> table_of(const matrix_view<T>& w) {
  return {nullptr, w.data, w.rows, w.cols, w.stride, nullptr};
}

/// A gradient of every group, or one matrix for all of them, and whether a product is to assign or to add, which only the
/// device may know: where there is a mark, it assigns if that is not set. Groups without memory are left out.
template <class C>
struct gradient_table {
  weight_table<C> values;
  store mode;                  // where there are no marks
  void* const* mark_of_group;  // beside `values.of_group`
  const std::uint8_t* mark;    // beside `values.dense`

  gradient_table(const weight_table<C>& table, store otherwise = store::add, void* const* marks = nullptr,
                 const std::uint8_t* only_mark = nullptr)
      : values(table), mode(otherwise), mark_of_group(marks), mark(only_mark) {}

  __device__ store mode_of(index_t group) const {
    const auto* const at = mark_of_group != nullptr ? static_cast<const std::uint8_t*>(mark_of_group[group]) : mark;
    if (at == nullptr) return mode;
    return *at != 0 ? store::add : store::assign;
  }
  bool marked() const { return mark_of_group != nullptr || mark != nullptr; }
};

template <class W>
auto gradient_of(const W& values, store mode = store::add) {
  return gradient_table<typename W::value_type>(table_of(values), mode);
}
template <class C>
gradient_table<C> gradient_of(const gradient_target<C>& target) {
  if (target.written()) return gradient_of(target.values());
  return gradient_table<C>(table_of(target.values()), store::add, nullptr, target.mark());
}
template <class C>
gradient_table<C> gradient_of(const grouped_target<C>& target) {
  if (target.written()) return gradient_of(target.values());
  return gradient_table<C>(table_of(target.values()), store::add, target.mark_of_expert());
}

template <class W>
concept GradientTarget = requires(const W& target) {
  target.set_written();
};

/// One or two of something: products of one shape that share a launch.
template <class T>
struct one_or_two {
  T first;
  T second = first;
  MOUE_HD const T& of(unsigned i) const { return i == 0 ? first : second; }
};

}  // namespace moue::inline v0_1::detail::gpu
