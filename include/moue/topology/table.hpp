// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Any connectivity, given as a table at run time.

#include <utility>
#include <vector>

#include "moue/topology.hpp"

namespace moue {

/// Layer `l` reaches the experts listed in `rows[l]`, in that order. Usable in constant expressions as long as the
/// table does not outlive the evaluation.
struct table {
  index pool = 0;  ///< number of physical experts
  std::vector<std::vector<index>> rows;

  constexpr index layers() const { return static_cast<index>(rows.size()); }
  constexpr index experts() const { return pool; }
  constexpr void candidates(index layer, auto emit) const {
    for (const index e : rows[static_cast<std::size_t>(layer)]) emit(e);
  }

  /// The same connectivity as `topology`, ready to be edited.
  template <Topology T>
  static constexpr table of(const T& topology) {
    table result{topology.experts(), {}};
    for (index layer = 0; layer < topology.layers(); ++layer) {
      std::vector<index> row;
      topology.candidates(layer, [&](index e) { row.push_back(e); });
      result.rows.push_back(std::move(row));
    }
    return result;
  }
};

}  // namespace moue
