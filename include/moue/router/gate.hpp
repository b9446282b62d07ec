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

namespace detail {

/// Gates w = scale e^l(z) / sum over selected of e^l, for gates that are in proportion to e^l with `l(z)` = `logarithm(z)`.
template <class C, class Logarithm>
MOUE_HD void share_selected(const vector_view<const C>& logits, const vector_view<const std::int32_t>& selected,
                            const vector_view<C>& gates, C scale, const Logarithm& logarithm) {
  C most = minus_infinity<C>();
  for (index_t i = 0; i < selected.size; ++i) {
    const C l = gates[i] = logarithm(logits[selected[i]]);
    most = l > most ? l : most;
  }
  C sum = C(0);
  for (index_t i = 0; i < selected.size; ++i) sum += gates[i] = exponential(gates[i] - most);
  for (index_t i = 0; i < selected.size; ++i) gates[i] = gates[i] / sum * scale;
}
/// Its backward, with the derivative of l.
template <class C, class Logarithm>
MOUE_HD void share_selected_backward(const vector_view<const C>& logits,
                                     const vector_view<const std::int32_t>& selected, const vector_view<const C>& gates,
                                     const vector_view<const C>& dgates, const vector_view<C>& dlogits, C scale,
                                     const Logarithm& logarithm) {
  C mean = C(0);
  for (index_t i = 0; i < selected.size; ++i) mean += gates[i] * dgates[i];
  mean /= scale;
  for (index_t i = 0; i < selected.size; ++i)
    dlogits[selected[i]] += gates[i] * (dgates[i] - mean) * logarithm.derivative(logits[selected[i]]);
}

struct logarithm_of_exponential {
  template <class C>
  MOUE_HD C operator()(C z) const {
    return z;
  }
  template <class C>
  MOUE_HD C derivative(C) const {
    return C(1);
  }
};
struct logarithm_of_sigmoid {
  template <class C>
  MOUE_HD C operator()(C z) const {
    return log_sigmoid(z);
  }
  template <class C>
  MOUE_HD C derivative(C z) const {
    return sigmoid(-z);
  }
};
struct logarithm_of_root_of_softplus {
  static constexpr double exact_from = -40;  // below it softplus(z) is e^z to the last bit
  template <class C>
  MOUE_HD C operator()(C z) const {
    using std::log;
    return C(0.5) * (z < C(exact_from) ? z : log(softplus(z)));
  }
  template <class C>
  MOUE_HD C derivative(C z) const {
    return z < C(exact_from) ? C(0.5) : C(0.5) * sigmoid(z) / softplus(z);
  }
};

}  // namespace detail

/// w = scale softmax over the selected logits. Equal in value and gradient to a softmax over all candidates divided by
/// the selected sum. Sums to the scale; with k = 1 the gate is the scale and the router gets no gradient from it.
struct softmax_of_selected {
  double scale = 1;  ///< what gates sum to

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    detail::share_selected(logits, selected, gates, C(scale), detail::logarithm_of_exponential{});
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    detail::share_selected_backward(logits, selected, gates, dgates, dlogits, C(scale),
                                    detail::logarithm_of_exponential{});
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
    detail::share_selected(logits, selected, gates, C(scale), detail::logarithm_of_sigmoid{});
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    detail::share_selected_backward(logits, selected, gates, dgates, dlogits, C(scale), detail::logarithm_of_sigmoid{});
  }
};

/// w_i = scale s(z_i) / sum over selected of s, with s(z) the square root of softplus(z) (DeepSeek-V4). Computed from
/// logarithms, as `sigmoid_renormalised`.
struct root_of_softplus_renormalised {
  double scale = 1;  ///< what gates sum to

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    detail::share_selected(logits, selected, gates, C(scale), detail::logarithm_of_root_of_softplus{});
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    detail::share_selected_backward(logits, selected, gates, dgates, dlogits, C(scale),
                                    detail::logarithm_of_root_of_softplus{});
  }
};

}  // namespace moue::inline v0_1
