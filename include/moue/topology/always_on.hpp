// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Shared experts: used by every token, beside the routed ones.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Adds always-on experts to `base`: `per_layer` private ones for each layer, and `per_model` that every layer uses.
/// They take every valid token with gate 1, are no candidates, and do not enter load, exposure or virtual width.
/// Ids follow those of `base`: private `i` of layer `l` is `base.experts() + l * per_layer + i`, then the common ones.
template <Topology TopologyT>
struct always_on {
  TopologyT base;         ///< what layers choose from
  index_t per_layer = 1;  ///< always-on experts that a layer owns
  index_t per_model = 0;  ///< always-on experts that all layers use

  constexpr index_t layers() const { return base.layers(); }
  constexpr index_t experts() const {
    return detail::topology_sum(detail::topology_sum(base.experts(), detail::topology_product(layers(), per_layer)),
                                per_model);
  }
  constexpr void candidates(index_t layer, auto append) const { base.candidates(layer, append); }
  constexpr void always(index_t layer, auto append) const {
    for (index_t i = 0; i < per_layer; ++i) append(base.experts() + layer * per_layer + i);
    for (index_t i = 0; i < per_model; ++i) append(base.experts() + layers() * per_layer + i);
    if constexpr (detail::has_always<TopologyT>) base.always(layer, append);
  }
  constexpr index_t parameter_layer(index_t layer) const requires detail::has_parameter_layer<TopologyT> {
    return base.parameter_layer(layer);
  }
};

template <class T>
always_on(T) -> always_on<T>;
template <class T>
always_on(T, index_t) -> always_on<T>;
template <class T>
always_on(T, index_t, index_t) -> always_on<T>;

}  // namespace moue::inline v0_1
