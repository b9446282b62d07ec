// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Every layer owns experts and may also use those of its neighbours.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Layer `l` owns `per_layer` experts and reaches those of the `reach` layers on either side, its own first, then by
/// ascending layer. A sliding neighbourhood; for aligned groups of layers that share one union (ReXMoE, arXiv
/// 2510.17483) use `reuse_blocks`.
struct adjacent_reuse {
  index_t depth = 1;      ///< layers
  index_t per_layer = 1;  ///< experts that a layer owns
  index_t reach = 1;      ///< layers on either side whose experts it reaches too

  constexpr index_t layers() const { return depth; }
  constexpr index_t experts() const { return detail::topology_product(depth, per_layer); }
  constexpr void candidates(index_t layer, auto append) const {
    const auto append_layer = [&](index_t from) {
      for (index_t i = 0; i < per_layer; ++i) append(from * per_layer + i);
    };
    append_layer(layer);
    const index_t first = layer > reach ? layer - reach : 0;
    const index_t last = reach < depth - 1 - layer ? layer + reach : depth - 1;
    for (index_t from = first; from <= last; ++from)
      if (from != layer) append_layer(from);
  }
};

}  // namespace moue::inline v0_1
