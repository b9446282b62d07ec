// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Selections that bound the entries of all tokens together.

#include <cstdint>

#include "moue/policies.hpp"

namespace test {

/// What `Select` takes, and of that a share of all it may take, rounded down.
template <class Select>
struct bounded : Select {
  double share;
  constexpr bounded(Select select, double part) : Select(select), share(part) {}
  constexpr moue::index_t most_entries(moue::index_t tokens, moue::index_t candidates) const {
    return static_cast<moue::index_t>(share * static_cast<double>(tokens * this->max_selected(candidates)));
  }
};
template <class Select>
bounded(Select, double) -> bounded<Select>;

template <class Select>
struct falling_bound : Select {
  constexpr explicit falling_bound(Select select) : Select(select) {}
  constexpr moue::index_t most_entries(moue::index_t tokens, moue::index_t) const { return tokens > 2 ? 1 : tokens; }
};
template <class Select>
falling_bound(Select) -> falling_bound<Select>;

template <class Select>
struct negative_bound : Select {
  constexpr explicit negative_bound(Select select) : Select(select) {}
  constexpr moue::index_t most_entries(moue::index_t, moue::index_t) const { return -1; }
};
template <class Select>
negative_bound(Select) -> negative_bound<Select>;

}  // namespace test
