// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a conversion does to the connections between layers and experts, worked out on ids alone.

#include <algorithm>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/topology.hpp"
#include "moue/topology/connectivity.hpp"

namespace moue::convert {

/// A topology written out: the candidates, always-on experts and router ties of every layer as lists.
struct wiring {
  index pool = 0;  ///< physical experts
  std::vector<std::vector<index>> rows;
  std::vector<std::vector<index>> shared;  ///< always-on experts
  std::vector<index> routers;              ///< the layer whose router parameters a layer uses

  index layers() const { return static_cast<index>(rows.size()); }
  index experts() const { return pool; }
  void candidates(index layer, auto emit) const {
    for (const index e : rows[static_cast<std::size_t>(layer)]) emit(e);
  }
  void always(index layer, auto emit) const {
    for (const index e : shared[static_cast<std::size_t>(layer)]) emit(e);
  }
  index parameter_layer(index layer) const { return routers[static_cast<std::size_t>(layer)]; }

  /// The same connections as `topology`. Throws if it breaks the laws of topologies.
  template <Topology T>
  static wiring of(const T& topology) {
    const connectivity lowered(topology);
    wiring result{lowered.experts(), {}, {}, {}};
    for (index layer = 0; layer < lowered.layers(); ++layer) {
      const auto candidates = lowered.candidates(layer);
      const auto always = lowered.always(layer);
      result.rows.emplace_back(candidates.begin(), candidates.end());
      result.shared.emplace_back(always.begin(), always.end());
      result.routers.push_back(lowered.parameter_layer(layer));
    }
    return result;
  }
};

/// A mixture of experts with more connections: the same physical experts under the same ids, every layer's own
/// candidates first (home), then those it gains (foreign).
struct plan {
  index home = 0;                ///< candidates that every layer brings along
  std::vector<index> universal;  ///< physical experts that other layers are to reach
  wiring topology;

  index layers() const { return topology.layers(); }
  std::span<const index> candidates(index layer) const { return topology.rows[static_cast<std::size_t>(layer)]; }
  std::span<const index> own(index layer) const { return candidates(layer).first(static_cast<std::size_t>(home)); }
  /// What `layer` gains, in the order of its foreign router rows: a candidate's place is its rank.
  std::span<const index> foreign(index layer) const {
    return candidates(layer).subspan(static_cast<std::size_t>(home));
  }
  /// Foreign candidates of all layers together.
  index connections() const {
    index sum = 0;
    for (index layer = 0; layer < layers(); ++layer) sum += static_cast<index>(foreign(layer).size());
    return sum;
  }
  /// The first layer that has `expert` at home, or -1.
  index home_of(index expert) const {
    for (index layer = 0; layer < layers(); ++layer)
      if (std::ranges::find(own(layer), expert) != own(layer).end()) return layer;
    return -1;
  }
};

namespace detail {

inline constexpr auto where = "convert";

/// Throws unless `ids` are distinct physical experts of a model with `experts`.
inline void require_experts(std::span<const index> ids, index experts) {
  std::vector<bool> seen(static_cast<std::size_t>(experts), false);
  for (const index e : ids) {
    moue::detail::require(
        e >= 0 && e < experts, where,
        [&] { return "expert " + std::to_string(e) + " was chosen of " + std::to_string(experts); },
        "choose physical ids of the source");
    moue::detail::require(
        !seen[static_cast<std::size_t>(e)], where, [&] { return "expert " + std::to_string(e) + " was chosen twice"; },
        "choose every expert once");
    seen[static_cast<std::size_t>(e)] = true;
  }
}

/// Visits that share router rows must mean the same experts by them.
inline void require_ties(const wiring& topology) {
  for (index layer = 0; layer < topology.layers(); ++layer) {
    const index owner = topology.parameter_layer(layer);
    moue::detail::require(
        topology.rows[static_cast<std::size_t>(layer)] == topology.rows[static_cast<std::size_t>(owner)], where,
        [&] {
          return "layers " + std::to_string(owner) + " and " + std::to_string(layer) +
                 " share router rows but would not reach the same experts";
        },
        "give tied layers the same candidates, or untie their routers first");
  }
}

}  // namespace detail

/// Connects the layers of `source` as `target` says. `universal` lists physical experts of the source; `target` is a
/// topology over the positions in that list, with the source's number of layers: where it emits j, the layer gains
/// `universal[j]`, unless that expert is at home or always on there already. Throws if layers of the source differ in
/// their number of candidates, or if lists and topologies do not fit together.
template <Topology SourceT, Topology TargetT>
plan extend(const SourceT& source, std::span<const index> universal, const TargetT& target) {
  using moue::detail::require;
  plan result{0, {universal.begin(), universal.end()}, wiring::of(source)};
  auto& layers = result.topology.rows;
  result.home = static_cast<index>(layers.front().size());
  for (std::size_t layer = 0; layer < layers.size(); ++layer)
    require(
        static_cast<index>(layers[layer].size()) == result.home, detail::where,
        [&] {
          return "layer " + std::to_string(layer) + " has " + std::to_string(layers[layer].size()) +
                 " candidates, layer 0 has " + std::to_string(result.home);
        },
        "extend a model whose layers have equally many");
  detail::require_experts(universal, source.experts());
  require(
      target.layers() == source.layers(), detail::where,
      [&] {
        return "the target topology has " + std::to_string(target.layers()) + " layers, the source " +
               std::to_string(source.layers());
      },
      "give the target the layers of the source");
  const auto count = static_cast<index>(universal.size());
  for (index layer = 0; layer < source.layers(); ++layer) {
    auto& row = layers[static_cast<std::size_t>(layer)];
    const auto& always = result.topology.shared[static_cast<std::size_t>(layer)];
    target.candidates(layer, [&](index position) {
      require(
          position >= 0 && position < count, detail::where,
          [&] {
            return "layer " + std::to_string(layer) + " of the target names position " + std::to_string(position) +
                   " of " + std::to_string(count) + " universal experts";
          },
          "build the target over as many experts as are universal");
      const index e = universal[static_cast<std::size_t>(position)];
      if (std::ranges::find(row, e) == row.end() && std::ranges::find(always, e) == always.end()) row.push_back(e);
    });
  }
  detail::require_ties(result.topology);
  return result;
}

/// The plan with every layer's foreign candidates by falling `key(layer, expert)`, equal ones as they were: schedules
/// that open by rank then start with the most promising.
template <class KeyT>
plan ranked(plan given, const KeyT& key) {
  for (index layer = 0; layer < given.layers(); ++layer) {
    auto& row = given.topology.rows[static_cast<std::size_t>(layer)];
    std::stable_sort(row.begin() + given.home, row.end(),
                     [&](index a, index b) { return key(layer, a) > key(layer, b); });
  }
  detail::require_ties(given.topology);
  return given;
}

}  // namespace moue::convert
