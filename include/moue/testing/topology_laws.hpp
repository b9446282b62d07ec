// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of topologies.

#include <concepts>
#include <string>
#include <vector>

#include "moue/testing/report.hpp"
#include "moue/topology.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

template <class T>
std::vector<index_t> appended(const T& topology, index_t layer) {
  std::vector<index_t> result;
  topology.candidates(layer, [&](index_t e) { result.push_back(e); });
  return result;
}
template <class T>
std::vector<index_t> appended_always(const T& topology, index_t layer) {
  std::vector<index_t> result;
  if constexpr (moue::detail::has_always<T>) topology.always(layer, [&](index_t e) { result.push_back(e); });
  return result;
}

}  // namespace detail

/// Checks that a topology is one: ids in range and distinct per layer, always-on experts included; some candidate for
/// every layer; an answer that depends on the arguments alone, also in a copy; derived counts that agree; routers tied
/// only to an earlier layer with as many candidates. Notes experts that no layer reaches.
template <Topology T>
law_report check_topology_laws(const T& topology) {
  law_report report("topology");
  const auto number = [](auto n) { return std::to_string(n); };
  report.attempt("the topology", [&] {
    const index_t layers = topology.layers(), experts = topology.experts();
    report.expect("there is a layer and an expert", layers > 0 && experts > 0,
                  [&] { return number(layers) + " layers, " + number(experts) + " experts"; });
    if (layers <= 0 || experts <= 0) return;

    std::vector<index_t> reach(static_cast<std::size_t>(experts), 0);
    std::vector<bool> reached(static_cast<std::size_t>(experts), false);
    index_t width = 0;
    bool in_range = true;
    for (index_t layer = 0; layer < layers; ++layer) {
      const auto ids = detail::appended(topology, layer);
      const auto always = detail::appended_always(topology, layer);
      const auto where = [&](index_t e) { return "layer " + number(layer) + " names expert " + number(e); };
      report.expect("every layer has a candidate", !ids.empty(),
                    [&] { return "layer " + number(layer) + " has none"; });
      std::vector<bool> seen(static_cast<std::size_t>(experts), false);
      const auto visit = [&](index_t e, bool candidate) {
        const bool ok = e >= 0 && e < experts;
        in_range = in_range && ok;
        report.expect("ids are in range", ok, [&] { return where(e) + " of " + number(experts); });
        if (!ok) return;
        const auto at = static_cast<std::size_t>(e);
        report.expect("ids are distinct in a layer", !seen[at], [&] { return where(e) + " twice"; });
        reach[at] += candidate && !seen[at] ? 1 : 0;
        seen[at] = reached[at] = true;
      };
      for (const index_t e : ids) visit(e, true);
      for (const index_t e : always) visit(e, false);
      width += static_cast<index_t>(ids.size());
      const T copy = topology;
      report.expect("the answer depends on the arguments alone",
                    detail::appended(topology, layer) == ids && detail::appended(copy, layer) == ids &&
                        detail::appended_always(copy, layer) == always,
                    [&] { return "layer " + number(layer) + " answers differently when asked again"; });
      report.expect("candidate_count agrees with what is appended",
                    candidate_count(topology, layer) == static_cast<index_t>(ids.size()),
                    [&] { return "at layer " + number(layer); });
      if constexpr (moue::detail::has_parameter_layer<T>) {
        const index_t owner = topology.parameter_layer(layer);
        const bool ok = owner >= 0 && owner <= layer && topology.parameter_layer(owner) == owner &&
                        candidate_count(topology, owner) == static_cast<index_t>(ids.size());
        report.expect("routers are tied to an earlier layer with as many candidates", ok,
                      [&] { return "layer " + number(layer) + " uses the router of layer " + number(owner); });
      }
    }
    report.expect("virtual_width is the sum of candidates", virtual_width(topology) == width,
                  [&] { return number(virtual_width(topology)) + ", not " + number(width); });
    if (!in_range) return;
    std::string orphans;
    for (index_t e = 0; e < experts; ++e) {
      const auto at = static_cast<std::size_t>(e);
      report.expect("exposure is the number of layers that connect", exposure(topology, e) == reach[at], [&] {
        return "of expert " + number(e) + ": " + number(exposure(topology, e)) + ", not " + number(reach[at]);
      });
      if (!reached[at]) orphans += (orphans.empty() ? "" : ", ") + number(e);
    }
    report.expect("covers says whether every expert is reached", covers(topology) == orphans.empty(),
                  [&] { return orphans.empty() ? std::string("all are") : "not expert " + orphans; });
    if (!orphans.empty()) report.note("no layer reaches expert " + orphans);
  });
  return report;
}

}  // namespace moue::inline v0_1::testing
