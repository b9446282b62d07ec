// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What one call of an expert's member gets: row matrices, and the tensors of one expert or of all experts of its kind.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "moue/dispatch.hpp"
#include "moue/expert.hpp"
#include "moue/gradients.hpp"
#include "moue/grouped.hpp"
#include "moue/parameter.hpp"

namespace moue::detail {

/// The rows that one call of an expert's member runs over.
struct group_place {
  index_t expert = -1;  // -1 where all experts of a kind run at once
  index_t kind = 0;
  index_t first = 0;
  index_t rows = 0;
};

/// Columns that a matrix of `width` takes in a row of a flat buffer: where matrices lie side by side, enough for each to
/// begin where vectors of any type do.
template <bool SideBySide>
constexpr index_t padded(index_t width) {
  return SideBySide ? (width + 31) / 32 * 32 : width;
}
template <bool SideBySide>
index_t row_width(const auto& widths) {
  index_t sum = 0;
  for (const index_t width : widths) sum += padded<SideBySide>(width);
  return sum;
}

/// The row matrices of a group in a flat buffer with `width` elements a row: one after another in an expert's part of it,
/// or, where rows of several kinds are mixed, side by side.
template <bool SideBySide, class T, std::size_t N, class C>
std::array<matrix_view<T>, N> row_matrices(const std::array<index_t, N>& widths, vector_view<C> buffer, index_t width,
                                           const group_place& at) {
  std::array<matrix_view<T>, N> result;
  auto* next = buffer.data + at.first * width;
  for (auto cols = widths.begin(); auto& m : result) {
    m = {next, at.rows, *cols, SideBySide ? width : *cols};
    next += SideBySide ? padded<true>(*cols) : at.rows * *cols;
    ++cols;
  }
  return result;
}

template <class T, class E>
auto tensors_of_expert(auto& values, index_t expert) {
  std::array<matrix_view<T>, parameter_count<E>> result;
  for (index_t place = values.layout().expert_first(expert); auto& tensor : result) tensor = values[place++];
  return result;
}

template <class T, class E>
auto tensors_of_kind(const E& kind, const pointer_table& table, const dispatch_plan& plan) {
  std::array<grouped_matrix<T>, parameter_count<E>> result;
  const auto specs = kind.parameters();
  for (auto spec = specs.begin(); auto& tensor : result) {
    const index_t first = (spec - specs.begin()) * plan.experts();
    tensor = {table.there.data + first, plan.row_expert, spec->rows, spec->cols, table.sent.data() + first};
    ++spec;
  }
  return result;
}

/// Whether a policy wrote the tensors of the experts of `kind` that have rows; a row is an expert.
template <std::size_t N>
struct set_expert_marks {
  void* const* marks;  // [N, experts]
  vector_view<const index_t> expert_offsets;
  vector_view<const std::int32_t> kind_of;
  std::int32_t kind;
  std::array<bool, N> written;
  MOUE_HD void operator()(index_t e) const {
    if (kind_of[e] != kind || expert_offsets[e + 1] == expert_offsets[e]) return;
    for (std::size_t i = 0; i < N; ++i)
      if (auto* const mark = static_cast<std::uint8_t*>(marks[static_cast<index_t>(i) * kind_of.size + e]); written[i])
        *mark = 1;
  }
};

/// As `call_targets`, of all experts of a kind at once.
template <class C, std::size_t N>
class kind_targets {
 public:
  template <class E>
  kind_targets(const E& kind, index_t position, const grouped_tables& tables, const dispatch_plan& plan)
      : settled_{
            tables.marks.there.data, plan.expert_offsets, tables.kind_of, static_cast<std::int32_t>(position), {}} {
    const auto values = tensors_of_kind<C>(kind, tables.gradients, plan);
    for (std::size_t i = 0; i < N; ++i) {
      const auto first = static_cast<index_t>(i) * plan.experts();
      void* const* const sent = tables.gradients.sent.data() + first;
      if (std::any_of(sent, sent + plan.experts(), [](const void* there) { return there != nullptr; }))
        targets_[i] = {values[i], tables.marks.there.data + first, &settled_.written[i]};
    }
  }
  kind_targets(const kind_targets&) = delete;  // targets point here
  kind_targets& operator=(const kind_targets&) = delete;

  const std::array<grouped_target<C>, N>& targets() const { return targets_; }
  /// With operations over a whole batch.
  void settle(const auto& ops) const {
    if (std::find(settled_.written.begin(), settled_.written.end(), true) != settled_.written.end())
      ops.each_row(settled_.kind_of.size, settled_);
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

}  // namespace moue::detail
