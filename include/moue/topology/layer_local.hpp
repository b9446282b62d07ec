// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The plain mixture of experts: every layer owns its experts.

#include "moue/topology.hpp"

namespace moue {

/// `per_layer` private experts for each of `depth` layers. Expert `i` of layer `l` has id `l * per_layer + i`.
struct layer_local {
  index depth = 1;
  index per_layer = 1;

  constexpr index layers() const { return depth; }
  constexpr index experts() const { return depth * per_layer; }
  constexpr void candidates(index layer, auto emit) const {
    for (index i = 0; i < per_layer; ++i) emit(layer * per_layer + i);
  }
};

}  // namespace moue
