// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Probability stages: the distribution over candidates that balancing losses read.

#include <cmath>

#include "moue/math.hpp"
#include "moue/router.hpp"

namespace moue {

/// p = softmax over all candidates. A row without an open candidate has p = 0.
struct softmax_probability {
  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<C> p) const {
    C most = detail::minus_infinity<C>();
    for (const C z : logits) most = z > most ? z : most;
    const bool open = most != detail::minus_infinity<C>();
    C sum = C(0);
    for (index j = 0; j < logits.size; ++j) sum += p[j] = open ? detail::exponential(logits[j] - most) : C(0);
    if (open)
      for (index j = 0; j < logits.size; ++j) p[j] /= sum;
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C>, vector_view<const C> p, vector_view<const C> dp,
                        vector_view<C> dlogits) const {
    C mean = C(0);
    for (index j = 0; j < p.size; ++j) mean += detail::rounded(p[j] * dp[j]);
    for (index j = 0; j < p.size; ++j) dlogits[j] += p[j] * (dp[j] - mean);
  }
};

/// p_i = sigmoid(z_i) / sum over all candidates of sigmoid (DeepSeek-V3's balance term), from logarithms as in
/// `sigmoid_renormalised`. A row without an open candidate has p = 0.
struct sigmoid_probability {
  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<C> p) const {
    C most = detail::minus_infinity<C>();
    for (const C z : logits) most = detail::log_sigmoid(z) > most ? detail::log_sigmoid(z) : most;
    const bool open = most != detail::minus_infinity<C>();
    C sum = C(0);
    for (index j = 0; j < logits.size; ++j)
      sum += p[j] = open ? detail::exponential(detail::log_sigmoid(logits[j]) - most) : C(0);
    if (open)
      for (index j = 0; j < logits.size; ++j) p[j] /= sum;
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const C> p, vector_view<const C> dp,
                        vector_view<C> dlogits) const {
    C mean = C(0);
    for (index j = 0; j < p.size; ++j) mean += detail::rounded(p[j] * dp[j]);
    for (index j = 0; j < p.size; ++j)  // d log sigmoid(z) / dz = sigmoid(-z); a closed candidate has p = 0
      dlogits[j] += p[j] * (dp[j] - mean) * detail::sigmoid(-logits[j]);
  }
};

}  // namespace moue
