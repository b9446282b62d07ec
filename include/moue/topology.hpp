// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Topology: which layer may use which physical expert. The contract and all that follows from it.

#include <cmath>
#include <concepts>

#include "moue/view.hpp"

namespace moue {
namespace detail {

struct emit_archetype {
  constexpr void operator()(index) const {}
};

template <class T>
concept has_layers = requires(const T t) {
  { t.layers() } -> std::convertible_to<index>;
};
template <class T>
concept has_experts = requires(const T t) {
  { t.experts() } -> std::convertible_to<index>;
};
template <class T>
concept has_candidates = requires(const T t, index layer) {
  t.candidates(layer, emit_archetype{});
};

// What the wrappers `always_on` and `revisit` add; a topology of one's own needs neither.
template <class T>
concept has_always = requires(const T t, index layer) {
  t.always(layer, emit_archetype{});
};
template <class T>
concept has_parameter_layer = requires(const T t, index layer) {
  { t.parameter_layer(layer) } -> std::convertible_to<index>;
};

}  // namespace detail

/// A map from layers to the physical experts they may route to.
///
///     index layers() const;                       // visits, in the order they are made
///     index experts() const;                      // physical experts, numbered 0 .. experts() - 1
///     void candidates(index layer, auto emit) const;  // calls emit(expert) once per candidate
///
/// Laws (`testing::check_topology_laws`): every emitted id is in range; no id is emitted twice for one layer; the answer
/// depends on the arguments alone. The order of emission is the order of the layer's logits and router rows.
/// A layer is a *visit*: a host model that runs the same block twice gives it two layers.
template <class T>
concept Topology = std::copyable<T> && detail::has_layers<T> && detail::has_experts<T> && detail::has_candidates<T>;

/// Names the first missing part of a topology in one sentence.
template <class T>
consteval bool check_topology() {
  static_assert(std::copyable<T>, "moue: a topology must be copyable");
  static_assert(detail::has_layers<T>, "moue: a topology needs the member 'index layers() const'");
  static_assert(detail::has_experts<T>, "moue: a topology needs the member 'index experts() const'");
  static_assert(detail::has_candidates<T>,
                "moue: a topology needs the member 'void candidates(index layer, auto emit) const'");
  return true;
}

/// Number of experts layer `layer` chooses from.
template <Topology T>
constexpr index candidate_count(const T& topology, index layer) {
  index count = 0;
  topology.candidates(layer, [&](index) { ++count; });
  return count;
}

/// Whether layer `layer` may use `expert`.
template <Topology T>
constexpr bool connects(const T& topology, index layer, index expert) {
  bool found = false;
  topology.candidates(layer, [&](index e) { found = found || e == expert; });
  return found;
}

/// Exposure c_e: the number of layers that may use `expert`.
template <Topology T>
constexpr index exposure(const T& topology, index expert) {
  index count = 0;
  for (index layer = 0; layer < topology.layers(); ++layer) count += connects(topology, layer, expert) ? 1 : 0;
  return count;
}

/// Whether `expert` is used by every token of some layer, beside the routed ones (see `always_on`).
template <Topology T>
constexpr bool is_always_on(const T& topology, index expert) {
  bool found = false;
  if constexpr (detail::has_always<T>)
    for (index layer = 0; layer < topology.layers(); ++layer)
      topology.always(layer, [&](index e) { found = found || e == expert; });
  return found;
}

/// Whether every physical expert can be reached from some layer: no orphan.
template <Topology T>
constexpr bool covers(const T& topology) {
  for (index expert = 0; expert < topology.experts(); ++expert)
    if (exposure(topology, expert) == 0 && !is_always_on(topology, expert)) return false;
  return true;
}

/// Virtual width: candidates summed over layers. Equals `experts()` for a plain MoE, `layers() * experts()` for one
/// fully shared pool. Always-on experts do not count.
template <Topology T>
constexpr index virtual_width(const T& topology) {
  index sum = 0;
  for (index layer = 0; layer < topology.layers(); ++layer) sum += candidate_count(topology, layer);
  return sum;
}

/// Natural logarithm of the number of routing paths, the product over layers of (candidates choose k).
template <Topology T>
double log_routing_paths(const T& topology, index k) {
  double sum = 0;
  for (index layer = 0; layer < topology.layers(); ++layer) {
    const index n = candidate_count(topology, layer);
    const index chosen = k < n ? k : n;
    for (index i = 1; i <= chosen; ++i)  // lgamma would touch the global signgam
      sum += std::log(static_cast<double>(n - chosen + i) / static_cast<double>(i));
  }
  return sum;
}

}  // namespace moue
