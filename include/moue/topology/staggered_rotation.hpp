// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The staggered rotational topology: windows that move around a ring of universal experts.

#include "moue/topology.hpp"

namespace moue {

/// Each layer reaches its `local` private experts and a window of `window` universal experts on one ring of `pool`:
///
///     window(l) = { (floor(l / group) * stride + j) mod pool : j = 0 .. window - 1 }
///
/// Neighbouring groups of layers share `window - stride` experts (staggered); the window wraps (rotational). Private
/// experts come first in the id order: private `i` of layer `l` is `l * local + i`, universal `j` is
/// `depth * local + j`. Needs `window <= pool`. The formula is this library's reading of the idea in arXiv 2603.04971;
/// see docs/method.md.
struct staggered_rotation {
  index depth = 1;
  index pool = 1;
  index window = 1;
  index stride = 1;
  index group = 1;
  index local = 0;

  constexpr index layers() const { return depth; }
  constexpr index experts() const { return depth * local + pool; }
  constexpr void candidates(index layer, auto emit) const {
    for (index i = 0; i < local; ++i) emit(layer * local + i);
    for (index j = 0; j < window; ++j)  // a ring or group of nothing gives no id, which lowering the topology refuses
      emit(pool > 0 && group > 0 ? depth * local + (layer / group * stride + j) % pool : -1);
  }
};

}  // namespace moue
