// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// One pool that every layer reaches.

#include "moue/topology.hpp"

namespace moue {

/// `pool` experts shared by all `depth` layers (UniPool, arXiv 2605.06665, in its fully shared form).
struct shared_pool {
  index depth = 1;
  index pool = 1;

  constexpr index layers() const { return depth; }
  constexpr index experts() const { return pool; }
  constexpr void candidates(index, auto emit) const {
    for (index e = 0; e < pool; ++e) emit(e);
  }
};

}  // namespace moue
