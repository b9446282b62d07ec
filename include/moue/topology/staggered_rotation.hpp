// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The staggered rotational topology: windows that move around a ring of universal experts.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Each layer reaches its `local` private experts and a window of `window` universal experts on one ring of `pool`:
///
///     window(l) = { (floor(l / group) * stride + j) mod pool : j = 0 .. window - 1 }
///
/// Neighbouring groups of layers share `window - stride` experts (staggered); the window wraps (rotational). Private
/// experts come first in the id order: private `i` of layer `l` is `l * local + i`, universal `j` is
/// `depth * local + j`. Needs `window <= pool`. The formula is this library's reading of the idea in arXiv 2603.04971;
/// see docs/method.md.
struct staggered_rotation {
  index_t depth = 1;   ///< layers
  index_t pool = 1;    ///< universal experts on the ring
  index_t window = 1;  ///< universal experts that a layer reaches
  index_t stride = 1;  ///< experts that the window moves on from group to group
  index_t group = 1;   ///< neighbouring layers that have one window
  index_t local = 0;   ///< experts that a layer owns

  constexpr index_t layers() const { return depth; }
  constexpr index_t experts() const { return detail::topology_sum(detail::topology_product(depth, local), pool); }
  constexpr void candidates(index_t layer, auto append) const {
    for (index_t i = 0; i < local; ++i) append(layer * local + i);
    const index_t first = pool > 0 && group > 0 ? detail::topology_product(layer / group, stride) : 0;
    for (index_t j = 0; j < window; ++j)  // a ring or group of nothing gives no id, which lowering the topology refuses
      append(pool > 0 && group > 0 ? depth * local + (first % pool + j) % pool : -1);
  }
};

}  // namespace moue::inline v0_1
