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

/// How an array of counts takes in that of another range or rank.
enum class reduction { sum, maximum };

namespace detail {

/// Calls `f(how, ...)` for every array of one or several counts, given side by side.
void each_count(const auto& f, auto&... counts) {
  f(reduction::sum, counts.tokens...);
  f(reduction::sum, counts.demand...);
  f(reduction::sum, counts.load...);
  f(reduction::sum, counts.rows...);
  f(reduction::sum, counts.probability...);
  f(reduction::maximum, counts.open...);
  f(reduction::sum, counts.token_loss...);
}

}  // namespace detail

/// Counts of a whole depth, with zeros for layers that did not run. Only valid (unpadded) tokens count. Columns stand
/// layer after layer, as in `depth_statistics`. Shares are ratios and do not add up; these do: integers exactly, sums of
/// probabilities and losses up to rounding, and to the bit where all but one of the terms are zero, as they are for ranges
/// of layers.
template <class C>
struct routing_counts {
  std::vector<std::int64_t> tokens;  ///< [layers] valid tokens
  std::vector<std::int64_t> demand;  ///< [columns] entries that the router selected
  std::vector<std::int64_t> load;    ///< [columns] rows that ran on the column's expert
  std::vector<std::int64_t> rows;    ///< [layers, experts] rows that ran, also on experts that are no candidates
  std::vector<C> probability;        ///< [columns] probabilities summed over tokens; zeros without a balancing loss
  std::vector<std::uint8_t> open;    ///< [columns] 0 where the logit was minus infinity for every token, else 1
  std::vector<C> token_loss;         ///< [layers, parts] token losses summed over tokens; empty without one

  /// Throws unless both are of models with the same layers, candidates and losses; an empty value adds nothing.
  routing_counts& operator+=(const routing_counts& other) {
    if (other.empty()) return *this;
    if (empty()) return *this = other;
    detail::require(
        tokens.size() == other.tokens.size() && demand.size() == other.demand.size() &&
            rows.size() == other.rows.size() && token_loss.size() == other.token_loss.size(),
        "routing_counts",
        [&] {
          return "counts of " + std::to_string(tokens.size()) + " layers with " + std::to_string(demand.size()) +
                 " columns were added to " + std::to_string(other.tokens.size()) + " with " +
                 std::to_string(other.demand.size());
        },
        "add counts of one mixture");
    detail::each_count(
        [](reduction how, auto& to, const auto& from) {
          for (std::size_t i = 0; i < to.size(); ++i)
            to[i] = how == reduction::sum ? to[i] + from[i] : (std::max)(to[i], from[i]);
        },
        *this, other);
    return *this;
  }
  /// The sum of both; throws as `+=` does.
  friend routing_counts operator+(routing_counts a, const routing_counts& b) { return a += b; }
  /// Whether all counts are the same, sums to the bit.
  bool operator==(const routing_counts&) const = default;

  /// Whether there are no counts at all: of a default-constructed value.
  bool empty() const { return tokens.empty(); }

  /// Calls `f(array, how)` for every vector above, with the reduction that adds the same array of another rank: all that
  /// a sum over ranks has to do.
  void each_array(const auto& f) {
    detail::each_count([&](reduction how, auto& array) { f(array, how); }, *this);
  }
};

namespace detail {

/// The same in the memory of a backend.
template <class C>
struct counts_view {
  vector_view<std::int64_t> tokens;
  vector_view<std::int64_t> demand;
  vector_view<std::int64_t> load;
  vector_view<std::int64_t> rows;
  vector_view<C> probability;
  vector_view<std::uint8_t> open;
  vector_view<C> token_loss;

  static counts_view take(auto& memory, index_t layers, index_t columns, index_t experts, index_t parts) {
    counts_view counts;
    counts.tokens = memory.template take<std::int64_t>(layers, "counts of tokens");
    counts.demand = memory.template take<std::int64_t>(columns, "counts of demand");
    counts.load = memory.template take<std::int64_t>(columns, "counts of load");
    counts.rows = memory.template take<std::int64_t>(layers * experts, "counts of rows");
    counts.probability = memory.template take<C>(columns, "sums of probabilities");
    counts.open = memory.template take<std::uint8_t>(columns, "open candidates");
    counts.token_loss = memory.template take<C>(layers * parts, "sums of token losses");
    return counts;
  }

  index_t experts() const { return tokens.size > 0 ? rows.size / tokens.size : 0; }
  MOUE_HD index_t parts() const { return tokens.size > 0 ? token_loss.size / tokens.size : 0; }
};

}  // namespace detail
}  // namespace moue::inline v0_1
