// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The way back: a mixture in which layers share experts made into one in which every layer has its own.

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/arrays.hpp"
#include "moue/convert/moe_to_moue.hpp"
#include "moue/convert/plan.hpp"
#include "moue/error.hpp"
#include "moue/mixture.hpp"
#include "moue/router/compose.hpp"

namespace moue::inline v0_1::convert {

/// Which copy of which expert every layer gets.
struct separation {
  wiring topology;              ///< every layer with experts of its own
  std::vector<index_t> origin;  ///< [experts of the topology] the physical expert of the source that each is a copy of
};

/// Gives every layer of `source` a copy of each expert it uses, always-on ones too. Copies are numbered layer by layer,
/// within a layer in the order of the originals' ids, so that ties and sums keep their order; columns keep theirs. Experts
/// that no layer uses are left out.
template <Topology SourceT>
separation separate(const SourceT& source) {
  separation result{wiring::of(source), {}};
  auto& topology = result.topology;
  for (std::size_t layer = 0; layer < topology.rows.size(); ++layer) {
    std::vector<index_t> used = topology.rows[layer];
    used.insert(used.end(), topology.shared[layer].begin(), topology.shared[layer].end());
    std::ranges::sort(used);
    const auto first = static_cast<index_t>(result.origin.size());
    for (auto* ids : {&topology.rows[layer], &topology.shared[layer]})
      for (index_t& e : *ids) e = first + (std::ranges::lower_bound(used, e) - used.begin());
    result.origin.insert(result.origin.end(), used.begin(), used.end());
  }
  topology.pool = static_cast<index_t>(result.origin.size());
  return result;
}

namespace detail {

/// The experts of `model` under the names of its copies.
template <class MixtureT>
auto copied_experts(const MixtureT& model, const std::vector<index_t>& origin) {
  using expert_type = typename MixtureT::expert_type;
  if constexpr (moue::detail::is_expert_pool<expert_type>) {
    const auto& pool = model.experts_executor().pool();
    std::vector<index_t> kinds;
    for (const index_t e : origin) kinds.push_back(static_cast<index_t>(pool.kind_of(e)));
    return [&]<std::size_t... Is>(std::index_sequence<Is...>) {
      return expert_type([kinds](index_t e) { return kinds[static_cast<std::size_t>(e)]; },
                         pool.template kind<Is>()...);
    }
    (std::make_index_sequence<expert_type::kinds>{});
  } else {
    return expert_of(model);
  }
}

/// For every router parameter in the order of the layout, whether it has one row per physical expert: whether it grows
/// with their number.
template <class MixtureT>
std::vector<bool> rows_by_expert(const MixtureT& model) {
  const auto specs = [&](index_t more) {
    auto features = model.features_shape(0, 0), score = model.score_shape(0, 0);
    features.experts += more;
    score.experts += more;
    return moue::detail::router_parameters(model.router(), features, score);
  };
  const auto before = specs(0), after = specs(1);
  std::vector<bool> result;
  for (std::size_t i = 0; i < before.size(); ++i) result.push_back(after[i].rows == before[i].rows + 1);
  return result;
}

}  // namespace detail

/// `source` with private copies as `given` says. Outputs, switch and z losses are bit-equal to the source's, and the
/// gradients of the copies of one expert add up to the gradient of the original. `universal_balance` is another loss
/// then: with nothing shared it is the mean Switch loss. A stage of yours that reads more of expert ids than their order
/// cannot be converted; nothing here can tell.
template <class E, class T, class R, class L, class B>
auto moue_to_moe(const mixture<E, T, R, L, B>& source, const separation& given) {
  return mixture{detail::copied_experts(source, given.origin), given.topology, source.router(), source.loss(),
                 source.backend()};
}

/// Copies `weights` of `source` into `copies`, weights of `moue_to_moe(source, given)`: experts by origin, rows of
/// model-wide router tables that belong to an expert (keys) likewise, everything else by name.
template <class MixtureT, Storage S>
void carry_copies(const MixtureT& source, const parameters<S>& weights, const separation& given,
                  parameters<S>& copies) {
  const auto& from = weights.layout();
  const auto& to = copies.layout();
  moue::detail::require(
      from.same_shapes(*source.layout()) && to.experts() == static_cast<index_t>(given.origin.size()), detail::where,
      [] { return std::string("the weights, the source and the separation do not belong together"); },
      "give the source's weights, and a layout of moue_to_moe(source, separate(source.topology()))");
  const auto copy_rows = [&](index_t a, index_t b, index_t first, index_t from_first, index_t rows) {
    const auto x = weights[a];
    const auto y = copies[b];
    for (index_t i = 0; i < rows; ++i) std::ranges::copy(x.row(from_first + i), y.row(first + i).begin());
  };
  const auto by_expert = detail::rows_by_expert(source);
  const auto places = detail::tensor_places(to);
  std::vector<bool> is_table(static_cast<std::size_t>(from.tensors()), false);
  for (std::size_t column = 0; column < by_expert.size(); ++column)
    if (by_expert[column]) is_table[static_cast<std::size_t>(from.router(0, static_cast<index_t>(column)))] = true;
  for (index_t i = 0; i < from.tensors(); ++i) {
    if (from[i].expert >= 0) continue;
    const auto found = places.find(from[i].name);
    const index_t rows = is_table[static_cast<std::size_t>(i)] ? to.experts() : from[i].rows;
    moue::detail::require(
        found != places.end() && to[found->second].rows == rows && to[found->second].cols == from[i].cols,
        detail::where, [&] { return "'" + from[i].name + "' does not fit the layout of the copies"; },
        "create them from moue_to_moe of the same source");
    if (is_table[static_cast<std::size_t>(i)])
      for (index_t e = 0; e < to.experts(); ++e)
        copy_rows(i, found->second, e, given.origin[static_cast<std::size_t>(e)], 1);
    else
      copy_rows(i, found->second, 0, 0, rows);
  }
  for (index_t e = 0; e < to.experts(); ++e) {
    const index_t first = from.expert_first(given.origin[static_cast<std::size_t>(e)]);
    for (index_t i = to.expert_first(e); i < to.tensors() && to[i].expert == e; ++i)
      copy_rows(first + i - to.expert_first(e), i, 0, 0, to[i].rows);
  }
}

}  // namespace moue::inline v0_1::convert
