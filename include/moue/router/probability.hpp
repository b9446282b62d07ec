// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Probability stages: the distribution over candidates that balancing losses read.

#include <cmath>

#include "moue/lanes.hpp"
#include "moue/math.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// p = softmax over all candidates. A row without an open candidate has p = 0.
struct softmax_probability {
  template <class C, class Lanes = one_lane>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<C> p, const Lanes& lanes = {}) const {
    const C most = detail::largest(logits, lanes);
    const bool open = most != detail::minus_infinity<C>();
    C sum = C(0);
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      sum += p[j] = open ? detail::exponential(logits[j] - most) : C(0);
    sum = lanes.sum(sum);
    if (open)
      for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) p[j] /= sum;
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void backward(vector_view<const C>, vector_view<const C> p, vector_view<const C> dp, vector_view<C> dlogits,
                        const Lanes& lanes = {}) const {
    C mean = C(0);
    for (index_t j = lanes.first(); j < p.size; j += lanes.step()) mean += detail::rounded(p[j] * dp[j]);
    mean = lanes.sum(mean);
    for (index_t j = lanes.first(); j < p.size; j += lanes.step()) dlogits[j] += p[j] * (dp[j] - mean);
  }
};

/// p_i = sigmoid(z_i) / sum over all candidates of sigmoid (DeepSeek-V3's balance term), from logarithms as in
/// `sigmoid_renormalised`. A row without an open candidate has p = 0.
struct sigmoid_probability {
  template <class C, class Lanes = one_lane>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<C> p, const Lanes& lanes = {}) const {
    C most = detail::minus_infinity<C>();
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) {
      p[j] = detail::log_sigmoid(logits[j]);
      most = p[j] > most ? p[j] : most;
    }
    most = lanes.first_of(most, detail::larger<C>());
    const bool open = most != detail::minus_infinity<C>();
    C sum = C(0);
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      sum += p[j] = open ? detail::exponential(p[j] - most) : C(0);
    sum = lanes.sum(sum);
    if (open)
      for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) p[j] /= sum;
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const C> p, vector_view<const C> dp,
                        vector_view<C> dlogits, const Lanes& lanes = {}) const {
    C mean = C(0);
    for (index_t j = lanes.first(); j < p.size; j += lanes.step()) mean += detail::rounded(p[j] * dp[j]);
    mean = lanes.sum(mean);
    // d log sigmoid(z) / dz = sigmoid(-z); a closed candidate has p = 0
    for (index_t j = lanes.first(); j < p.size; j += lanes.step())
      dlogits[j] += p[j] * (dp[j] - mean) * detail::sigmoid(-logits[j]);
  }
};

}  // namespace moue::inline v0_1
