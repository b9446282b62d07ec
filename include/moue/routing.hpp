// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The interface between routers and experts: (token, expert, gate) assignments as plain arrays.

#include <cstdint>

#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Assignments of `tokens` tokens to experts. Token `t` owns the entries `[offsets[t], offsets[t + 1])`; an entry whose
/// expert is −1 runs nowhere, so that rectangles with holes and ragged lists have the same form. Entries of one token
/// that name the same expert share one row, whose gate is their sum in entry order. Views only: the arrays may come
/// from anywhere. All but `offsets` have `offsets[tokens]` elements.
template <class C>
struct routing {
  vector_view<const index_t> offsets;      ///< [tokens + 1], ascending from 0
  vector_view<const std::int32_t> expert;  ///< physical ids, or −1
  vector_view<const C> gate;               ///< the weight of each entry; where nothing runs, nobody reads it
  /// The column of the router, a position among the layer's candidates, that each entry's gate comes from: where its
  /// gradient goes back to, whichever expert runs. −1 for always-on experts and for what a caller added. Empty for
  /// assignments that come from no router.
  vector_view<const std::int32_t> column = {};

  /// Tokens, whether or not they have entries.
  constexpr index_t tokens() const { return offsets.size > 0 ? offsets.size - 1 : 0; }
  /// Entries of all tokens together, empty ones too.
  constexpr index_t entries() const { return expert.size; }

  /// Whether entry `i` of token `t` runs in a row of its own: it names an expert, and no earlier entry of the token
  /// names the same. O(entries of the token).
  MOUE_HD constexpr bool leads_row(index_t t, index_t i) const {
    if (expert[i] < 0) return false;
    for (index_t j = offsets[t]; j < i; ++j)
      if (expert[j] == expert[i]) return false;
    return true;
  }
};

namespace detail {

/// Calls `f(entry)` for every entry that shares the row of `first`, in order: `first` is the row's first entry, of
/// token `t`.
template <class C, class F>
MOUE_HD void each_entry_of_row(const routing<C>& r, index_t t, index_t first, const F& f) {
  const std::int32_t e = r.expert[first];
  for (index_t i = first; i < r.offsets[t + 1]; ++i)
    if (r.expert[i] == e) f(i);
}

}  // namespace detail
}  // namespace moue::inline v0_1
