// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Topology: which layer may use which physical expert. The contract and all that follows from it.

#include <cmath>
#include <concepts>
#include <limits>
#include <string>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// a · b and a + b, numbers of layers and experts; −1 if one is negative, which lowering refuses. Throws if they overflow.
constexpr index_t topology_product(index_t a, index_t b) {
  if (a > 0 && b > 0 && a > (std::numeric_limits<index_t>::max)() / b)
    throw error("topology", std::to_string(a) + " times " + std::to_string(b) + " overflows",
                "give it between 1 and 2147483647 layers and experts");
  return a < 0 || b < 0 ? -1 : a * b;
}
constexpr index_t topology_sum(index_t a, index_t b) {
  if (a > 0 && b > (std::numeric_limits<index_t>::max)() - a)
    throw error("topology", std::to_string(a) + " and " + std::to_string(b) + " overflow",
                "give it between 1 and 2147483647 layers and experts");
  return a < 0 || b < 0 ? -1 : a + b;
}

struct append_archetype {
  constexpr void operator()(index_t) const {}
};

template <class T>
concept has_layers = requires(const T t) {
  { t.layers() } -> std::convertible_to<index_t>;
};
template <class T>
concept has_experts = requires(const T t) {
  { t.experts() } -> std::convertible_to<index_t>;
};
template <class T>
concept has_candidates = requires(const T t, index_t layer) {
  t.candidates(layer, append_archetype{});
};

// What the wrappers `always_on` and `revisit` add; a topology of one's own needs neither.
template <class T>
concept has_always = requires(const T t, index_t layer) {
  t.always(layer, append_archetype{});
};
template <class T>
concept has_parameter_layer = requires(const T t, index_t layer) {
  { t.parameter_layer(layer) } -> std::convertible_to<index_t>;
};

}  // namespace detail

/// A map from layers to the physical experts they may route to.
///
///     index_t layers() const;                       // visits, in the order they are made
///     index_t experts() const;                      // physical experts, numbered 0 .. experts() - 1
///     void candidates(index_t layer, auto append) const;  // calls append(expert) once per candidate
///
/// Laws (`testing::check_topology_laws`): every appended id is in range; no id is appended twice for one layer; the
/// answer depends on the arguments alone. The order of the calls is the order of the layer's logits and router rows. A
/// layer is a *visit*: a host model that runs the same block twice gives it two layers.
template <class T>
concept Topology = std::copyable<T> && detail::has_layers<T> && detail::has_experts<T> && detail::has_candidates<T>;

/// Names the first missing part of a topology in one sentence.
template <class T>
consteval bool check_topology() {
  static_assert(std::copyable<T>, "moue: a topology must be copyable");
  static_assert(detail::has_layers<T>, "moue: a topology needs the member 'index_t layers() const'");
  static_assert(detail::has_experts<T>, "moue: a topology needs the member 'index_t experts() const'");
  static_assert(detail::has_candidates<T>,
                "moue: a topology needs the member 'void candidates(index_t layer, auto append) const'");
  return true;
}

/// Number of experts layer `layer` chooses from.
template <Topology T>
constexpr index_t candidate_count(const T& topology, index_t layer) {
  index_t count = 0;
  topology.candidates(layer, [&](index_t) { ++count; });
  return count;
}

/// Whether layer `layer` may use `expert`.
template <Topology T>
constexpr bool connects(const T& topology, index_t layer, index_t expert) {
  bool found = false;
  topology.candidates(layer, [&](index_t e) { found = found || e == expert; });
  return found;
}

/// Exposure c_e: the number of layers that may use `expert`.
template <Topology T>
constexpr index_t exposure(const T& topology, index_t expert) {
  index_t count = 0;
  for (index_t layer = 0; layer < topology.layers(); ++layer) count += connects(topology, layer, expert) ? 1 : 0;
  return count;
}

/// Whether `expert` is used by every token of some layer, beside the routed ones (see `always_on`).
template <Topology T>
constexpr bool is_always_on(const T& topology, index_t expert) {
  bool found = false;
  if constexpr (detail::has_always<T>)
    for (index_t layer = 0; layer < topology.layers(); ++layer)
      topology.always(layer, [&](index_t e) { found = found || e == expert; });
  return found;
}

/// Whether every physical expert can be reached from some layer: no orphan.
template <Topology T>
constexpr bool covers(const T& topology) {
  for (index_t expert = 0; expert < topology.experts(); ++expert)
    if (exposure(topology, expert) == 0 && !is_always_on(topology, expert)) return false;
  return true;
}

/// Virtual width: candidates summed over layers. Equals `experts()` for a plain MoE, `layers() * experts()` for one
/// fully shared pool. Always-on experts do not count.
template <Topology T>
constexpr index_t virtual_width(const T& topology) {
  index_t sum = 0;
  for (index_t layer = 0; layer < topology.layers(); ++layer) sum += candidate_count(topology, layer);
  return sum;
}

/// Natural logarithm of the number of routing paths, the product over layers of (candidates choose k).
template <Topology T>
double log_routing_paths(const T& topology, index_t k) {
  double sum = 0;
  for (index_t layer = 0; layer < topology.layers(); ++layer) {
    const index_t n = candidate_count(topology, layer);
    const index_t chosen = k < n ? k : n;
    for (index_t i = 1; i <= chosen; ++i)  // lgamma would touch the global signgam
      sum += std::log(static_cast<double>(n - chosen + i) / static_cast<double>(i));
  }
  return sum;
}

}  // namespace moue::inline v0_1
