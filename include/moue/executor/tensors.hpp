// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What one call of an expert's member gets: row matrices, and the tensors of all experts of its kind.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "moue/backend.hpp"
#include "moue/dispatch.hpp"
#include "moue/expert.hpp"
#include "moue/gradients.hpp"
#include "moue/grouped.hpp"
#include "moue/parameter.hpp"

namespace moue::inline v0_1::detail {

/// Columns of a row of a flat buffer in which matrices of these widths lie side by side.
index_t row_width(const auto& widths) {
  index_t sum = 0;
  for (const index_t width : widths) sum += padded(width);
  return sum;
}

/// The matrices of `widths` that lie side by side in `buffer` from column `column` on, in `rows` rows from `first` on.
template <class T, std::size_t N, class C>
std::array<matrix_view<T>, N> row_matrices(const std::array<index_t, N>& widths, const matrix_view<C>& buffer,
                                           index_t first, index_t rows, index_t column = 0) {
  std::array<matrix_view<T>, N> result;
  for (auto width = widths.begin(); auto& m : result) {
    m = buffer.row_block(first, rows).column_block(column, *width);
    column += padded(*width++);
  }
  return result;
}

/// The tensors of all experts of a kind, for the rows of a block.
template <class T, class E>
auto tensors_of_kind(const E& kind, const pointer_table& table, const dispatch_plan& plan, const plan_block& at) {
  std::array<grouped_matrix<T>, parameter_count<E>> result;
  const auto specs = kind.parameters();
  const vector_view<const std::int32_t> row_expert{plan.row_expert.data + at.first, at.rows};
  for (auto spec = specs.begin(); auto& tensor : result) {
    const index_t first = (spec - specs.begin()) * plan.experts();
    tensor = {table.there + first, row_expert, spec->rows, spec->cols, table.sent.data() + first};
    ++spec;
  }
  return result;
}

/// Marks the tensors that a call wrote: those of every expert with rows in the block whose gradient is wanted, once each.
template <std::size_t N>
struct set_expert_marks {
  void* const* values;  // [N, experts]
  void* const* marks;   // [N, experts]
  index_t experts;
  vector_view<const std::int32_t> row_expert;  // [rows of the block]
  std::array<bool, N> written;
  MOUE_HD void operator()(index_t i) const {
    const index_t expert = row_expert[i];
    if (i > 0 && row_expert[i - 1] == expert) return;
    for (std::size_t n = 0; n != N; ++n) {  // N may be 0
      const index_t at = static_cast<index_t>(n) * experts + expert;
      if (written[n] && values[at] != nullptr) *static_cast<std::uint8_t*>(marks[at]) = 1;
    }
  }
};

/// What one call of an expert's `backward` may write: the targets of its N tensors, whose marks `settle` sets after the
/// call.
template <class C, std::size_t N>
class block_targets {
 public:
  template <class E>
  block_targets(const E& kind, const grouped_tables& tables, const dispatch_plan& plan, const plan_block& at)
      : settled_{tables.gradients.there,
                 tables.marks.there,
                 plan.experts(),
                 {plan.row_expert.data + at.first, at.rows},
                 {}} {
    const auto values = tensors_of_kind<C>(kind, tables.gradients, plan, at);
    for (std::size_t i = 0; i != N; ++i) {  // N may be 0
      const auto first = static_cast<index_t>(i) * plan.experts();
      void* const* const sent = tables.gradients.sent.data() + first;
      if (std::any_of(sent, sent + plan.experts(), [](const void* there) { return there != nullptr; }))
        targets_[i] = {values[i], tables.marks.there + first, &settled_.written[i]};
    }
  }
  block_targets(const block_targets&) = delete;  // targets point here
  block_targets& operator=(const block_targets&) = delete;

  const std::array<grouped_target<C>, N>& targets() const { return targets_; }
  /// With the operations of the block.
  void settle(const auto& ops) const {
    if (std::find(settled_.written.begin(), settled_.written.end(), true) != settled_.written.end())
      ops.each_row(settled_.row_expert.size, settled_);
  }

 private:
  std::array<grouped_target<C>, N> targets_ = {};
  mutable set_expert_marks<N> settled_;  // written through targets, of a constant object too
};

/// Puts `address(tensor)` of every expert's tensors into `list` [most, experts]; says whether anything changed.
template <class F>
bool list_addresses(std::vector<void*>& list, const parameter_layout& layout, index_t most, const F& address) {
  const index_t experts = layout.experts();
  bool changed = list.empty();
  list.resize(static_cast<std::size_t>(most * experts), nullptr);
  for (index_t e = 0; e < experts; ++e) {
    const index_t first = layout.expert_first(e);
    for (index_t i = first; i < layout.tensors() && layout[i].expert == e; ++i) {
      void*& known = list[static_cast<std::size_t>((i - first) * experts + e)];
      void* const now = address(i);
      changed = changed || known != now;
      known = now;
    }
  }
  return changed;
}

}  // namespace moue::inline v0_1::detail
