// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The router z-loss, which keeps logits small.

#include <cmath>

#include "moue/balance.hpp"
#include "moue/lanes.hpp"
#include "moue/math.hpp"

namespace moue::inline v0_1 {

/// weight · mean over layers and tokens of (log sum_i exp z_i)² (Zoph et al., ST-MoE, arXiv 2202.08906). Closed
/// candidates do not contribute; a row without an open one counts as 0.
struct z_loss {
  double weight = 0.001;  ///< of the loss beside the host's

  template <class C, class Lanes = one_lane>
  MOUE_HD C token_value(vector_view<const C> logits, vector_view<const C>, const Lanes& lanes = {}) const {
    const C lse = log_sum_exp(logits, lanes);
    return lse == detail::minus_infinity<C>() ? C(0) : C(weight) * lse * lse;
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void token_gradient(vector_view<const C> logits, vector_view<const C>, C scale, vector_view<C> dlogits,
                              const Lanes& lanes = {}) const {
    const C lse = log_sum_exp(logits, lanes);
    if (lse == detail::minus_infinity<C>()) return;
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      dlogits[j] += scale * C(2 * weight) * lse * detail::exponential(logits[j] - lse);
  }

 private:
  template <class C, class Lanes>
  MOUE_HD static C log_sum_exp(vector_view<const C> logits, const Lanes& lanes) {
    using std::log;
    const C most = detail::largest(logits, lanes);
    if (most == detail::minus_infinity<C>()) return most;
    C sum = C(0);
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) sum += detail::exponential(logits[j] - most);
    return most + log(lanes.sum(sum));
  }
};

}  // namespace moue::inline v0_1
