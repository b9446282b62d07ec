// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <moue/policies.hpp>

namespace published {

/// out[0] = the sum of the parts, in their order.
template <class C>
struct add_up {
  moue::matrix_view<const C> parts;  // [1, any]
  moue::vector_view<C> out;
  MOUE_HD void operator()(moue::index_t) const {
    out[0] = C(0);
    for (const C part : parts.row(0)) out[0] += part;
  }
};

}  // namespace published
