// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The router z-loss, which keeps logits small.

#include <cmath>

#include "moue/balance.hpp"
#include "moue/math.hpp"

namespace moue {

/// weight · mean over layers and tokens of (log sum_i exp z_i)² (Zoph et al., ST-MoE, arXiv 2202.08906). Closed
/// candidates do not contribute; a row without an open one counts as 0.
struct z_loss {
  double weight = 0.001;

  template <class C>
  MOUE_HD C token_value(vector_view<const C> logits, vector_view<const C>) const {
    const C lse = log_sum_exp(logits);
    return lse == detail::minus_infinity<C>() ? C(0) : C(weight) * lse * lse;
  }
  template <class C>
  MOUE_HD void token_gradient(vector_view<const C> logits, vector_view<const C>, C scale,
                              vector_view<C> dlogits) const {
    const C lse = log_sum_exp(logits);
    if (lse == detail::minus_infinity<C>()) return;
    for (index j = 0; j < logits.size; ++j)
      dlogits[j] += scale * C(2 * weight) * lse * detail::exponential(logits[j] - lse);
  }

 private:
  template <class C>
  MOUE_HD static C log_sum_exp(vector_view<const C> logits) {
    using std::log;
    C most = detail::minus_infinity<C>();
    for (const C z : logits) most = z > most ? z : most;
    if (most == detail::minus_infinity<C>()) return most;
    C sum = C(0);
    for (const C z : logits) sum += detail::exponential(z - most);
    return most + log(sum);
  }
};

}  // namespace moue
