// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Entries that go beyond what a selection allows all tokens together: which of them run nowhere.

#include <cstdint>

#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// The entries of a layer by rank: the place among those of their token. The last rank that is counted takes in all
/// behind it. Of the router's own, `own` of each token take part: those of always-on experts do not.
struct ranked_entries {
  vector_view<const index_t> offsets;  // [tokens + 1]
  vector_view<std::int32_t> experts;   // [entries]; those that run nowhere, −1, count as none
  vector_view<index_t> counts;         // [ranks + 1] entries of each rank, and behind them the first rank that is cut
  index_t own;                         // entries of each token that take part, from its first; −1: all

  MOUE_HD index_t tokens() const { return offsets.size - 1; }
  MOUE_HD index_t ranks() const { return counts.size - 1; }
  /// Calls `f` for the entries of token `t` from rank `first` to `last`.
  template <class F>
  MOUE_HD void each(index_t t, index_t first, index_t last, const F& f) const {
    const index_t end = own >= 0 ? offsets[t] + own : offsets[t + 1];
    for (index_t i = offsets[t] + first; i < end && (i - offsets[t] <= last || last + 1 == ranks()); ++i)
      if (i < experts.size && experts[i] >= 0) f(experts[i]);
  }
};

/// counts[rank] = entries of that rank.
struct count_rank {
  ranked_entries of;
  MOUE_HD void operator()(index_t rank) const {
    index_t count = 0;
    for (index_t t = 0; t < of.tokens(); ++t) of.each(t, rank, rank, [&](std::int32_t&) { ++count; });
    of.counts[rank] = count;
  }
};
/// Finds the rank in which the limit is reached, and cuts it behind the first tokens.
struct cut_rank {
  ranked_entries of;
  index_t limit;
  MOUE_HD void operator()(index_t) const {
    index_t rank = 0, left = limit;
    while (rank < of.ranks() && of.counts[rank] <= left) left -= of.counts[rank++];
    of.counts[of.ranks()] = rank;
    if (rank == of.ranks()) return;
    for (index_t t = 0; t < of.tokens(); ++t)
      of.each(t, rank, rank, [&](std::int32_t& expert) {
        if (left > 0)
          --left;
        else
          expert = -1;
      });
  }
};
/// Cuts the ranks behind it.
struct drop_ranks {
  ranked_entries of;
  MOUE_HD void operator()(index_t t) const {
    const index_t first = of.counts[of.ranks()] + 1;
    if (first < of.ranks()) of.each(t, first, of.ranks() - 1, [](std::int32_t& expert) { expert = -1; });
  }
};

/// An entry that belongs to no token runs nowhere: the host refuses such offsets, a device cannot.
struct drop_uncovered {
  ranked_entries of;
  MOUE_HD void operator()(index_t i) const {
    if (i < of.offsets[0] || i >= of.offsets[of.tokens()]) of.experts[i] = -1;
  }
};

/// Lets no more than `limit` entries run: of each rank those of the first tokens, first ranks first. Linear in tokens times
/// ranks, which threads share.
void drop_overflow(const auto& ops, const ranked_entries& of, index_t limit) {
  if (of.ranks() <= 0) return;
  if (of.own < 0) ops.each_row(of.experts.size, drop_uncovered{of});
  ops.each_row(of.ranks(), count_rank{of});
  ops.each_row(1, cut_rank{of, limit});
  ops.each_row(of.tokens(), drop_ranks{of});
}

}  // namespace moue::inline v0_1::detail
