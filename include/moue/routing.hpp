// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The seam between routers and experts: (token, expert, gate) assignments as plain arrays.

#include <cstdint>

#include "moue/view.hpp"

namespace moue {

/// Assignments of `tokens` tokens to experts. Token `t` owns the entries `[offsets[t], offsets[t + 1])`; an entry whose
/// expert is −1 is empty, so rectangles with holes and ragged lists are both spelt this way. No token may name an expert
/// twice. Views only: bring arrays from anywhere. `expert` and `gate` have `offsets[tokens]` entries.
template <class C>
struct routing {
  vector_view<const index_t> offsets;      ///< [tokens + 1], ascending from 0
  vector_view<const std::int32_t> expert;  ///< physical ids, or −1
  vector_view<const C> gate;               ///< the weight of each entry; ignored where empty

  constexpr index_t tokens() const { return offsets.size > 0 ? offsets.size - 1 : 0; }
  constexpr index_t entries() const { return expert.size; }
};

}  // namespace moue
