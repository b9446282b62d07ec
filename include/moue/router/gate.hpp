// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Gate stages: the weight of each selected expert.

#include <cmath>

#include "moue/lanes.hpp"
#include "moue/math.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// w = scale softmax over the selected logits. Equal in value and gradient to a softmax over all candidates divided by
/// the selected sum. Sums to the scale; with k = 1 the gate is the scale and the router gets no gradient from it.
struct softmax_of_selected {
  double scale = 1;  ///< what gates sum to

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    C most = detail::minus_infinity<C>();
    for (const auto column : selected) most = logits[column] > most ? logits[column] : most;
    C sum = C(0);
    for (index_t i = 0; i < selected.size; ++i) sum += gates[i] = detail::exponential(logits[selected[i]] - most);
    for (index_t i = 0; i < selected.size; ++i) gates[i] = gates[i] / sum * C(scale);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C>, vector_view<const std::int32_t> selected, vector_view<const C> gates,
                        vector_view<const C> dgates, vector_view<C> dlogits) const {
    C mean = C(0);
    for (index_t i = 0; i < selected.size; ++i) mean += gates[i] * dgates[i];
    mean /= C(scale);
    for (index_t i = 0; i < selected.size; ++i) dlogits[selected[i]] += gates[i] * (dgates[i] - mean);
  }
};

/// w = scale times the selected entries of a softmax over all candidates, not renormalised (Switch, DeepSeekMoE; scale is
/// DeepSeek-V2's routed_scaling_factor). Every open logit gets a gradient, also with k = 1. For the renormalised form use
/// `softmax_of_selected`.
struct softmax_then_select {
  double scale = 1;  ///< of every gate

  template <class C, class Lanes = one_lane>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected, vector_view<C> gates,
                       const Lanes& lanes = {}) const {
    const auto [most, sum] = normaliser(logits, lanes);
    for (index_t i = lanes.first(); i < selected.size; i += lanes.step())
      gates[i] = detail::exponential(logits[selected[i]] - most) / sum * C(scale);
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits,
                        const Lanes& lanes = {}) const {
    const auto [most, sum] = normaliser(logits, lanes);
    C mean = C(0);
    for (index_t i = 0; i < selected.size; ++i) {
      mean += gates[i] * dgates[i];
      if (lanes.leads()) dlogits[selected[i]] += gates[i] * dgates[i];
    }
    lanes.wait();
    if (selected.size > 0)
      for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
        dlogits[j] -= detail::exponential(logits[j] - most) / sum * mean;
  }

 private:
  template <class C>
  struct parts {
    C most, sum;
  };
  template <class C, class Lanes>
  MOUE_HD static parts<C> normaliser(vector_view<const C> logits, const Lanes& lanes) {
    const C most = detail::largest(logits, lanes);
    C sum = C(0);
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) sum += detail::exponential(logits[j] - most);
    return {most, lanes.sum(sum)};
  }
};

/// w_i = scale sigmoid(z_i), not competitive.
struct sigmoid_gate {
  double scale = 1;  ///< of every gate

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    for (index_t i = 0; i < selected.size; ++i) gates[i] = C(scale) * detail::sigmoid(logits[selected[i]]);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected, vector_view<const C>,
                        vector_view<const C> dgates, vector_view<C> dlogits) const {
    for (index_t i = 0; i < selected.size; ++i) {
      const C s = detail::sigmoid(logits[selected[i]]);
      dlogits[selected[i]] += C(scale) * s * (C(1) - s) * dgates[i];
    }
  }
};

/// w_i = scale sigmoid(z_i) / sum over selected of sigmoid (DeepSeek-V3, arXiv 2412.19437, with scale 2.5). Computed from
/// logarithms, so it stays exact when all sigmoids underflow and needs no epsilon that a router could exploit.
struct sigmoid_renormalised {
  double scale = 1;  ///< what gates sum to

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    C most = detail::minus_infinity<C>();
    for (const auto column : selected) {
      const C s = detail::log_sigmoid(logits[column]);
      most = s > most ? s : most;
    }
    C sum = C(0);
    for (index_t i = 0; i < selected.size; ++i)
      sum += gates[i] = detail::exponential(detail::log_sigmoid(logits[selected[i]]) - most);
    for (index_t i = 0; i < selected.size; ++i) gates[i] *= C(scale) / sum;
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    C mean = C(0);
    for (index_t i = 0; i < selected.size; ++i) mean += gates[i] * dgates[i];
    mean /= C(scale);
    for (index_t i = 0; i < selected.size; ++i)  // d log sigmoid(z) / dz = sigmoid(-z)
      dlogits[selected[i]] += gates[i] * (dgates[i] - mean) * detail::sigmoid(-logits[selected[i]]);
  }
};

/// w_i = scale s(z_i) / sum over selected of s, with s(z) the square root of softplus(z) (DeepSeek-V4). Computed from
/// logarithms, as `sigmoid_renormalised`.
struct root_of_softplus_renormalised {
  double scale = 1;  ///< what gates sum to

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    C most = detail::minus_infinity<C>();
    for (const auto column : selected) most = logits[column] > most ? logits[column] : most;
    most = logarithm(most);
    C sum = C(0);
    for (index_t i = 0; i < selected.size; ++i)
      sum += gates[i] = detail::exponential(logarithm(logits[selected[i]]) - most);
    for (index_t i = 0; i < selected.size; ++i) gates[i] *= C(scale) / sum;
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    C mean = C(0);
    for (index_t i = 0; i < selected.size; ++i) mean += gates[i] * dgates[i];
    mean /= C(scale);
    for (index_t i = 0; i < selected.size; ++i) {
      const C z = logits[selected[i]];
      const C slope = z < C(exact_from) ? C(0.5) : C(0.5) * detail::sigmoid(z) / detail::softplus(z);
      dlogits[selected[i]] += gates[i] * (dgates[i] - mean) * slope;
    }
  }

 private:
  static constexpr double exact_from = -40;  // below it softplus(z) is e^z to the last bit
  template <class C>
  MOUE_HD static C logarithm(C z) {
    using std::log;
    return C(0.5) * (z < C(exact_from) ? z : log(detail::softplus(z)));
  }
};

}  // namespace moue::inline v0_1
