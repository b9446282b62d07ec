// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Every layer owns experts and may also borrow those of its neighbours.

#include "moue/topology.hpp"

namespace moue {

/// Layer `l` owns `per_layer` experts and reaches those of the `reach` layers on either side, its own first, then by
/// ascending layer. A sliding neighbourhood; for aligned groups of layers that share one union (ReXMoE, arXiv
/// 2510.17483) use `reuse_blocks`.
struct adjacent_reuse {
  index depth = 1;
  index per_layer = 1;
  index reach = 1;

  constexpr index layers() const { return depth; }
  constexpr index experts() const { return depth * per_layer; }
  constexpr void candidates(index layer, auto emit) const {
    const auto emit_layer = [&](index from) {
      for (index i = 0; i < per_layer; ++i) emit(from * per_layer + i);
    };
    emit_layer(layer);
    const index first = layer > reach ? layer - reach : 0;
    const index last = layer + reach < depth - 1 ? layer + reach : depth - 1;
    for (index from = first; from <= last; ++from)
      if (from != layer) emit_layer(from);
  }
};

}  // namespace moue
