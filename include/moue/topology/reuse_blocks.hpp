// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Blocks of adjacent layers that share one pool each.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Layers are cut into blocks of `block` (the last may be shorter); each block shares `block * per_layer` experts, so
/// the physical count equals that of a plain MoE with `per_layer` experts a layer (MoRE, arXiv 2609.18176).
struct reuse_blocks {
  index_t depth = 1;      ///< layers
  index_t per_layer = 1;  ///< experts that a layer brings into its block
  index_t block = 2;      ///< layers that share their experts

  constexpr index_t layers() const { return depth; }
  constexpr index_t experts() const { return detail::topology_product(depth, per_layer); }
  constexpr void candidates(index_t layer, auto append) const {
    if (block <= 0) return;  // no candidate, which lowering the topology refuses
    const index_t first = layer / block * block;
    const index_t last = block < depth - first ? first + block : depth;
    for (index_t e = first * per_layer; e < last * per_layer; ++e) append(e);
  }
};

}  // namespace moue::inline v0_1
