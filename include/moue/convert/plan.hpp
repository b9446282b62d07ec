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

namespace moue::inline v0_1::convert {

/// A topology written out: the candidates, always-on experts and router ties of every layer as lists.
struct wiring {
  index_t pool = 0;                          ///< physical experts
  std::vector<std::vector<index_t>> rows;    ///< [layers] candidates, in the order of columns
  std::vector<std::vector<index_t>> shared;  ///< always-on experts
  std::vector<index_t> routers;              ///< the layer whose router parameters a layer uses

  index_t layers() const { return static_cast<index_t>(rows.size()); }
  index_t experts() const { return pool; }
  void candidates(index_t layer, auto append) const {
    for (const index_t e : rows[static_cast<std::size_t>(layer)]) append(e);
  }
  void always(index_t layer, auto append) const {
    for (const index_t e : shared[static_cast<std::size_t>(layer)]) append(e);
  }
  index_t parameter_layer(index_t layer) const { return routers[static_cast<std::size_t>(layer)]; }

  /// The same connections as `topology`. Throws if it breaks the laws of topologies.
  template <Topology T>
  static wiring of(const T& topology) {
    const connectivity lowered(topology);
    wiring result{lowered.experts(), {}, {}, {}};
    for (index_t layer = 0; layer < lowered.layers(); ++layer) {
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
  index_t home = 0;                ///< candidates that every layer brings along
  std::vector<index_t> universal;  ///< physical experts that other layers are to reach
  wiring topology;                 ///< with all connections

  index_t layers() const { return topology.layers(); }
  std::span<const index_t> candidates(index_t layer) const { return topology.rows[static_cast<std::size_t>(layer)]; }
  /// What `layer` brings along.
  std::span<const index_t> own(index_t layer) const { return candidates(layer).first(static_cast<std::size_t>(home)); }
  /// What `layer` gains, in the order of its foreign router rows: a candidate's place is its rank.
  std::span<const index_t> foreign(index_t layer) const {
    return candidates(layer).subspan(static_cast<std::size_t>(home));
  }
  /// Foreign candidates of all layers together.
  index_t connections() const {
    index_t sum = 0;
    for (index_t layer = 0; layer < layers(); ++layer) sum += static_cast<index_t>(foreign(layer).size());
    return sum;
  }
  /// The first layer that has `expert` at home, or -1.
  index_t home_of(index_t expert) const {
    for (index_t layer = 0; layer < layers(); ++layer)
      if (std::ranges::find(own(layer), expert) != own(layer).end()) return layer;
    return -1;
  }
};

namespace detail {

inline constexpr auto where = "convert";

/// Throws unless `ids` are distinct physical experts of a model with `experts`.
inline void require_experts(std::span<const index_t> ids, index_t experts) {
  std::vector<bool> seen(static_cast<std::size_t>(experts), false);
  for (const index_t e : ids) {
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
  for (index_t layer = 0; layer < topology.layers(); ++layer) {
    const index_t owner = topology.parameter_layer(layer);
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
/// topology over the positions in that list, with the source's number of layers: where it appends j, the layer gains
/// `universal[j]`, unless that expert is at home or always on there already. Throws if layers of the source differ in
/// their number of candidates, or if lists and topologies do not fit together.
template <Topology SourceT, Topology TargetT>
plan extend(const SourceT& source, std::span<const index_t> universal, const TargetT& target) {
  using moue::detail::require;
  plan result{0, {universal.begin(), universal.end()}, wiring::of(source)};
  auto& layers = result.topology.rows;
  result.home = static_cast<index_t>(layers.front().size());
  for (std::size_t layer = 0; layer < layers.size(); ++layer)
    require(
        static_cast<index_t>(layers[layer].size()) == result.home, detail::where,
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
  const auto count = static_cast<index_t>(universal.size());
  for (index_t layer = 0; layer < source.layers(); ++layer) {
    auto& row = layers[static_cast<std::size_t>(layer)];
    const auto& always = result.topology.shared[static_cast<std::size_t>(layer)];
    target.candidates(layer, [&](index_t position) {
      require(
          position >= 0 && position < count, detail::where,
          [&] {
            return "layer " + std::to_string(layer) + " of the target names position " + std::to_string(position) +
                   " of " + std::to_string(count) + " universal experts";
          },
          "build the target over as many experts as are universal");
      const index_t e = universal[static_cast<std::size_t>(position)];
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
  for (index_t layer = 0; layer < given.layers(); ++layer) {
    auto& row = given.topology.rows[static_cast<std::size_t>(layer)];
    std::stable_sort(row.begin() + given.home, row.end(),
                     [&](index_t a, index_t b) { return key(layer, a) > key(layer, b); });
  }
  detail::require_ties(given.topology);
  return given;
}

}  // namespace moue::inline v0_1::convert
