// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A place in a row that nobody has sorted, for selections of whole tables.

#include <moue/policies.hpp>

namespace published {

/// The number that would stand at `place` if `all` were in decreasing order; `all` is reordered (Hoare's FIND).
template <class C>
MOUE_HD C largest_but(moue::index_t place, moue::vector_view<C> all) {
  moue::index_t low = 0, high = all.size - 1;
  while (low < high) {
    const C pivot = all[low + (high - low) / 2];
    moue::index_t i = low, j = high;
    while (i <= j) {
      while (all[i] > pivot) ++i;
      while (all[j] < pivot) --j;
      if (i > j) break;
      const C swapped = all[i];
      all[i++] = all[j];
      all[j--] = swapped;
    }
    if (place > j && place < i) break;
    if (place <= j)
      high = j;
    else
      low = i;
  }
  return all[place];
}

}  // namespace published
