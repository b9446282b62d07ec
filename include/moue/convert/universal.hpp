// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which experts of a source become universal.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/convert/plan.hpp"
#include "moue/error.hpp"
#include "moue/topology.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::convert {

/// Physical ids of a source's topology: `std::vector<index_t> operator()(const wiring& source) const`. Their order is
/// that of the positions a target topology speaks of.
template <class P>
concept UniversalChoice = std::copyable<P> && requires(const P choose, const wiring& source) {
  { choose(source) } -> std::convertible_to<std::vector<index_t>>;
};

/// Every expert that some layer routes to, by ascending id.
struct all_experts {
  std::vector<index_t> operator()(const wiring& source) const {
    std::vector<bool> routed(static_cast<std::size_t>(source.pool), false);
    for (const auto& row : source.rows)
      for (const index_t e : row) routed[static_cast<std::size_t>(e)] = true;
    std::vector<index_t> ids;
    for (index_t e = 0; e < source.pool; ++e)
      if (routed[static_cast<std::size_t>(e)]) ids.push_back(e);
    return ids;
  }
};

/// These, in this order.
struct given {
  std::vector<index_t> ids;  ///< physical experts

  std::vector<index_t> operator()(const wiring& source) const {
    detail::require_experts(ids, source.pool);
    return ids;
  }
};

namespace detail {

/// The `count` routed experts with the highest scores (in every layer if `per_layer`, else of all), by ascending id;
/// equal scores go to the lower id.
inline std::vector<index_t> highest(const wiring& source, index_t count, bool per_layer, std::span<const double> scores,
                                    std::string_view what) {
  using moue::detail::require;
  require(
      static_cast<index_t>(scores.size()) == source.pool, where,
      [&] {
        return std::string(what) + " has " + std::to_string(scores.size()) + " entries for " +
               std::to_string(source.pool) + " experts";
      },
      "give one per physical expert of the source");
  std::vector<index_t> chosen;
  const auto take = [&](std::vector<index_t> ids) {
    require(
        count >= 0 && count <= static_cast<index_t>(ids.size()), where,
        [&] { return std::to_string(count) + " experts were asked for of " + std::to_string(ids.size()); },
        "ask for no more than there are");
    std::ranges::sort(ids);
    std::ranges::stable_sort(ids, [&](index_t a, index_t b) {
      return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
    });
    chosen.insert(chosen.end(), ids.begin(), ids.begin() + count);
  };
  if (per_layer)
    for (const auto& row : source.rows) take(row);
  else
    take(all_experts{}(source));
  std::ranges::sort(chosen);
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

}  // namespace detail

/// The `count` experts (of every layer if `per_layer`) that carry the highest `load`, one number per physical expert,
/// such as the expert shares of a pass's statistics summed over batches.
struct most_used {
  index_t count = 0;         ///< how many are chosen
  std::vector<double> load;  ///< [experts]
  bool per_layer = false;    ///< whether `count` is that of every layer

  std::vector<index_t> operator()(const wiring& source) const {
    return detail::highest(source, count, per_layer, load, "the load");
  }
};

/// The `count` experts (of every layer if `per_layer`) that have the closest kin in other layers: by the mean, over the
/// layers that do not reach the expert, of its highest similarity to one of their candidates. `similarity` is [experts,
/// experts] and stays the caller's; entries that are not finite are passed over (moue/analysis/similarity.hpp).
struct most_similar {
  index_t count = 0;                     ///< how many are chosen
  matrix_view<const double> similarity;  ///< [experts, experts]
  bool per_layer = false;                ///< whether `count` is that of every layer

  std::vector<index_t> operator()(const wiring& source) const {
    moue::detail::require(
        similarity.rows == source.pool && similarity.cols == source.pool, detail::where,
        [&] { return "the similarity is " + moue::detail::shape_text(similarity.rows, similarity.cols); },
        "give [experts, experts]");
    std::vector<double> kinship;
    for (index_t e = 0; e < source.pool; ++e) kinship.push_back(closest(source, e));
    return detail::highest(source, count, per_layer, kinship, "the kinship");
  }

 private:
  double closest(const wiring& source, index_t e) const {
    double sum = 0;
    index_t layers = 0;
    for (const auto& row : source.rows) {
      if (std::ranges::find(row, e) != row.end()) continue;
      double best = -std::numeric_limits<double>::infinity();
      for (const index_t other : row)
        if (std::isfinite(similarity(e, other))) best = (std::max)(best, similarity(e, other));
      if (!std::isfinite(best)) continue;
      sum += best;
      ++layers;
    }
    return layers > 0 ? sum / static_cast<double>(layers) : -std::numeric_limits<double>::infinity();
  }
};

}  // namespace moue::inline v0_1::convert
