// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Shared experts: used by every token, beside the routed ones.

#include "moue/topology.hpp"

namespace moue {

/// Adds always-on experts to `base`: `per_layer` private ones for each layer, and `per_model` that every layer uses.
/// They take every valid token with gate 1, are no candidates, and do not enter load, exposure or virtual width.
/// Ids follow those of `base`: private `i` of layer `l` is `base.experts() + l * per_layer + i`, then the common ones.
template <Topology TopologyT>
struct always_on {
  TopologyT base;
  index per_layer = 1;
  index per_model = 0;

  constexpr index layers() const { return base.layers(); }
  constexpr index experts() const { return base.experts() + layers() * per_layer + per_model; }
  constexpr void candidates(index layer, auto emit) const { base.candidates(layer, emit); }
  constexpr void always(index layer, auto emit) const {
    for (index i = 0; i < per_layer; ++i) emit(base.experts() + layer * per_layer + i);
    for (index i = 0; i < per_model; ++i) emit(base.experts() + layers() * per_layer + i);
    if constexpr (detail::has_always<TopologyT>) base.always(layer, emit);
  }
  constexpr index parameter_layer(index layer) const requires detail::has_parameter_layer<TopologyT> {
    return base.parameter_layer(layer);
  }
};

template <class T>
always_on(T) -> always_on<T>;
template <class T>
always_on(T, index) -> always_on<T>;
template <class T>
always_on(T, index, index) -> always_on<T>;

}  // namespace moue
