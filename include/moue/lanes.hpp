// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Lanes: the threads that share one row of a row functor.

#include "moue/view.hpp"

namespace moue {

/// One thread with a row to itself. A row functor that may be called as f(row, lanes) as well as f(row) is run by several
/// threads where a backend has them: each takes the columns from `first()` on, `step()` apart. Sums over columns go through
/// `sum`, which every lane must call and which gives all of them the same, and what belongs to the row as a whole is read
/// before that and written after it by the lane that `leads()`.
struct one_lane {
  MOUE_HD static constexpr index first() { return 0; }
  MOUE_HD static constexpr index step() { return 1; }
  MOUE_HD static constexpr bool leads() { return true; }
  template <class C>
  MOUE_HD static constexpr C sum(C part) {
    return part;
  }
};

}  // namespace moue
