// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A group of layers that is run several times.

#include "moue/topology.hpp"

namespace moue {

/// Runs the layers of `base` `times` times over: visit `v` sees the experts of layer `v mod base.layers()`. With
/// `tied_router` the visits of one layer share its router parameters too (looped groups as in MoEUT, arXiv 2405.16039);
/// without, each visit has its own (chain of experts, arXiv 2506.18945). Depth state is indexed by visit either way.
template <Topology TopologyT>
struct revisit {
  TopologyT base;
  index times = 2;
  bool tied_router = false;

  constexpr index layers() const { return base.layers() * times; }
  constexpr index experts() const { return base.experts(); }
  constexpr void candidates(index visit, auto emit) const { base.candidates(visit % base.layers(), emit); }
  constexpr void always(index visit, auto emit) const requires detail::has_always<TopologyT> {
    base.always(visit % base.layers(), emit);
  }
  constexpr index parameter_layer(index visit) const { return tied_router ? visit % base.layers() : visit; }
};

template <class T>
revisit(T) -> revisit<T>;
template <class T>
revisit(T, index) -> revisit<T>;
template <class T>
revisit(T, index, bool) -> revisit<T>;

}  // namespace moue
