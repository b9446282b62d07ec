// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What routing did, as counts: a value that adds up over ranges of layers, micro-batches and ranks.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Counts of a whole depth, with zeros for layers that did not run. Only valid (unpadded) tokens count. Columns stand
/// layer after layer, as in `depth_statistics`. Shares are ratios and do not add up; these do: integers exactly, sums of
/// probabilities and losses up to rounding, and to the bit where all but one of the terms are zero, as they are for ranges
/// of layers.
template <class C>
struct routing_counts {
  std::vector<std::int64_t> tokens;  ///< [layers] valid tokens
  std::vector<std::int64_t> demand;  ///< [columns] entries that the router selected
  std::vector<std::int64_t> load;    ///< [columns] rows that ran on the column's expert
  std::vector<C> probability;        ///< [columns] probabilities summed over tokens; zeros without a balancing loss
  std::vector<std::uint8_t> open;    ///< [columns] 0 where the logit was minus infinity for every token, else 1
  std::vector<C> token_loss;         ///< [layers, parts] token losses summed over tokens; empty without one

  /// Throws unless both are of models with the same layers, candidates and losses; an empty value adds nothing.
  routing_counts& operator+=(const routing_counts& other) {
    if (other.empty()) return *this;
    if (empty()) return *this = other;
    detail::require(
        tokens.size() == other.tokens.size() && demand.size() == other.demand.size() &&
            token_loss.size() == other.token_loss.size(),
        "routing_counts",
        [&] {
          return "counts of " + std::to_string(tokens.size()) + " layers with " + std::to_string(demand.size()) +
                 " columns were added to " + std::to_string(other.tokens.size()) + " with " +
                 std::to_string(other.demand.size());
        },
        "add counts of one mixture");
    const auto add = [](auto& to, const auto& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    };
    add(tokens, other.tokens);
    add(demand, other.demand);
    add(load, other.load);
    add(probability, other.probability);
    add(token_loss, other.token_loss);
    for (std::size_t i = 0; i < open.size(); ++i) open[i] = (std::max)(open[i], other.open[i]);
    return *this;
  }
  /// The sum of both; throws as `+=` does.
  friend routing_counts operator+(routing_counts a, const routing_counts& b) { return a += b; }
  /// Whether all counts are the same, sums to the bit.
  bool operator==(const routing_counts&) const = default;

  /// Whether there are no counts at all: of a default-constructed value.
  bool empty() const { return tokens.empty(); }
};

namespace detail {

/// The same in the memory of a backend.
template <class C>
struct counts_view {
  vector_view<std::int64_t> tokens;
  vector_view<std::int64_t> demand;
  vector_view<std::int64_t> load;
  vector_view<C> probability;
  vector_view<std::uint8_t> open;
  matrix_view<C> token_loss;

  static counts_view take(auto& memory, index_t layers, index_t columns, index_t parts) {
    counts_view counts;
    counts.tokens = memory.template take<std::int64_t>(layers, "counts of tokens");
    counts.demand = memory.template take<std::int64_t>(columns, "counts of demand");
    counts.load = memory.template take<std::int64_t>(columns, "counts of load");
    counts.probability = memory.template take<C>(columns, "sums of probabilities");
    counts.open = memory.template take<std::uint8_t>(columns, "open candidates");
    counts.token_loss = memory.template take<C>(layers, parts, "sums of token losses");
    return counts;
  }
};

}  // namespace detail
}  // namespace moue::inline v0_1
