// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Any connectivity, given as a table at run time.

#include <utility>
#include <vector>

#include "moue/config.hpp"
#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Layer `l` reaches the experts listed in `rows[l]`, in that order. Usable in constant expressions as long as the
/// table does not outlive the evaluation and the standard library's vectors are.
struct table {
  index_t pool = 0;                        ///< number of physical experts
  std::vector<std::vector<index_t>> rows;  ///< [layers] lists of candidates, in the order of columns

  MOUE_CONSTEXPR_VECTOR index_t layers() const { return static_cast<index_t>(rows.size()); }
  constexpr index_t experts() const { return pool; }
  MOUE_CONSTEXPR_VECTOR void candidates(index_t layer, auto append) const {
    for (const index_t e : rows[static_cast<std::size_t>(layer)]) append(e);
  }

  /// The same connectivity as `topology`, ready to be edited.
  template <Topology T>
  static MOUE_CONSTEXPR_VECTOR table of(const T& topology) {
    table result{topology.experts(), {}};
    for (index_t layer = 0; layer < topology.layers(); ++layer) {
      std::vector<index_t> row;
      topology.candidates(layer, [&](index_t e) { row.push_back(e); });
      result.rows.push_back(std::move(row));
    }
    return result;
  }
};

}  // namespace moue::inline v0_1
