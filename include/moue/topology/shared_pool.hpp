// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// One pool that every layer reaches.

#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// `pool` experts shared by all `depth` layers (UniPool, arXiv 2605.06665, in its fully shared form).
struct shared_pool {
  index_t depth = 1;  ///< layers
  index_t pool = 1;   ///< experts

  constexpr index_t layers() const { return depth; }
  constexpr index_t experts() const { return pool; }
  constexpr void candidates(index_t, auto append) const {
    for (index_t e = 0; e < pool; ++e) append(e);
  }
};

}  // namespace moue::inline v0_1
