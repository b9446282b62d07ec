// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The tensors that one call of an expert's member gets: those of one expert, or those of all experts of its kind.

#include <array>
#include <cstddef>
#include <vector>

#include "moue/dispatch.hpp"
#include "moue/expert.hpp"
#include "moue/grouped.hpp"
#include "moue/parameter.hpp"

namespace moue::detail {

template <class T, class E>
auto tensors_of_expert(auto& values, index expert) {
  std::array<matrix_view<T>, parameter_count<E>> result;
  for (index place = values.layout().expert_first(expert); auto& tensor : result) tensor = values[place++];
  return result;
}

template <class T, class E>
auto tensors_of_kind(const E& kind, const pointer_table& table, const dispatch_plan& plan) {
  std::array<grouped_matrix<T>, parameter_count<E>> result;
  const auto specs = kind.parameters();
  for (auto spec = specs.begin(); auto& tensor : result) {
    const index first = (spec - specs.begin()) * plan.experts();
    tensor = {table.there.data + first, plan.row_expert, spec->rows, spec->cols, table.sent.data() + first};
    ++spec;
  }
  return result;
}

/// Puts `address(tensor)` of every expert's tensors into `list` [most, experts]; says whether anything changed.
template <class F>
bool list_addresses(std::vector<void*>& list, const parameter_layout& layout, index most, const F& address) {
  const index experts = layout.experts();
  bool changed = list.empty();
  list.resize(static_cast<std::size_t>(most * experts), nullptr);
  for (index e = 0; e < experts; ++e) {
    const index first = layout.expert_first(e);
    for (index i = first; i < layout.tensors() && layout[i].expert == e; ++i) {
      void*& known = list[static_cast<std::size_t>((i - first) * experts + e)];
      void* const now = address(i);
      changed = changed || known != now;
      known = now;
    }
  }
  return changed;
}

}  // namespace moue::detail
