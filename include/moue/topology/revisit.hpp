// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A group of layers that is run several times.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// Runs the layers of `base` `times` times over: visit `v` sees the experts of layer `v mod base.layers()`. With
/// `tied_router` the visits of one layer share its router parameters too (looped groups as in MoEUT, arXiv 2405.16039);
/// without, each visit has its own (chain of experts, arXiv 2506.18945). Depth state is indexed by visit either way.
template <Topology TopologyT>
struct revisit {
  TopologyT base;            ///< what is run over and over
  index_t times = 2;         ///< how often
  bool tied_router = false;  ///< whether the visits of a layer share its router

  constexpr index_t layers() const { return detail::topology_product(base.layers(), times); }
  constexpr index_t experts() const { return base.experts(); }
  constexpr void candidates(index_t visit, auto append) const { base.candidates(visit % base.layers(), append); }
  constexpr void always(index_t visit, auto append) const requires detail::has_always<TopologyT> {
    base.always(visit % base.layers(), append);
  }
  constexpr index_t parameter_layer(index_t visit) const { return tied_router ? visit % base.layers() : visit; }
};

template <class T>
revisit(T) -> revisit<T>;
template <class T>
revisit(T, index_t) -> revisit<T>;
template <class T>
revisit(T, index_t, bool) -> revisit<T>;

}  // namespace moue::inline v0_1
