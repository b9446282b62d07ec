// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The plain mixture of experts: every layer owns its experts.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// `per_layer` private experts for each of `depth` layers. Expert `i` of layer `l` has id `l * per_layer + i`.
struct layer_local {
  index_t depth = 1;      ///< layers
  index_t per_layer = 1;  ///< experts that a layer owns

  constexpr index_t layers() const { return depth; }
  constexpr index_t experts() const { return detail::topology_product(depth, per_layer); }
  constexpr void candidates(index_t layer, auto append) const {
    for (index_t i = 0; i < per_layer; ++i) append(layer * per_layer + i);
  }
};

}  // namespace moue::inline v0_1
