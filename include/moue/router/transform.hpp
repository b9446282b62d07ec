// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Transform stages: what becomes of logits before anything else reads them.

#include "moue/lanes.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// Logits as the score made them. A pass copies nothing for it.
struct no_transform {
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, vector_view<C> transformed, const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) transformed[j] = logits[j];
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void backward(vector_view<const C>, vector_view<const C>, vector_view<const C> dtransformed,
                        vector_view<C> dlogits, const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < dlogits.size; j += lanes.step()) dlogits[j] += dtransformed[j];
  }
};

}  // namespace moue::inline v0_1
