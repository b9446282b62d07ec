// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The gate of Phi-3.5-MoE: each pick is weighed against its close rivals.

#include "moue/math.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// The i-th gate is the pick's share of a softmax over the candidates that were not picked before it and whose logits are
/// close to the largest such logit m: (m - z_j) / max(|z_j|, m) <= 2 jitter. A pick without close rivals weighs 1, so two
/// clear picks sum to 2; a pick that is not close to m itself (other than `top_k` by logits may make one) weighs 0.
///
/// This is SparseMixer-v2 (arXiv 2409.12136) as Phi-3.5-MoE uses it for inference, where k = 2 and jitter = 0.01. Its
/// gradient is the derivative of these weights with the sets of rivals held fixed; the random picks and the third-order
/// estimate that the paper trains with are not here. O(candidates k²) per token.
struct sparsemixer {
  double jitter = 0.01;  ///< half the relative distance from the best logit up to which others are rivals

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    for (index_t i = 0; i < selected.size; ++i) {
      const auto [most, sum] = normaliser(logits, selected, i);
      const index_t own = selected[i];
      gates[i] = competes(logits, selected, i, own, most) ? detail::exponential(logits[own] - most) / sum : C(0);
    }
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    for (index_t i = 0; i < selected.size; ++i) {
      const auto [most, sum] = normaliser(logits, selected, i);
      const C slope = gates[i] * dgates[i];
      for (index_t j = 0; j < logits.size; ++j)
        if (competes(logits, selected, i, j, most)) dlogits[j] -= slope * detail::exponential(logits[j] - most) / sum;
      dlogits[selected[i]] += slope;
    }
  }

 private:
  /// Whether column `j` is open and was not picked before pick `i`.
  template <class C>
  MOUE_HD static bool available(vector_view<const C> logits, vector_view<const std::int32_t> selected, index_t i,
                                index_t j) {
    if (logits[j] == detail::minus_infinity<C>()) return false;
    for (index_t earlier = 0; earlier < i; ++earlier)
      if (selected[earlier] == j) return false;
    return true;
  }
  template <class C>
  struct parts {
    C most, sum;
  };
  template <class C>
  MOUE_HD parts<C> normaliser(vector_view<const C> logits, vector_view<const std::int32_t> selected, index_t i) const {
    C most = detail::minus_infinity<C>();
    for (index_t j = 0; j < logits.size; ++j)
      if (logits[j] > most && available(logits, selected, i, j)) most = logits[j];
    C sum = C(0);
    for (index_t j = 0; j < logits.size; ++j)
      if (competes(logits, selected, i, j, most)) sum += detail::exponential(logits[j] - most);
    return {most, sum};
  }
  template <class C>
  MOUE_HD bool competes(vector_view<const C> logits, vector_view<const std::int32_t> selected, index_t i, index_t j,
                        C most) const {
    if (!available(logits, selected, i, j)) return false;
    const C size = logits[j] < C(0) ? -logits[j] : logits[j];
    return !((most - logits[j]) / (size > most ? size : most) > C(2 * jitter));  // 0 / 0 and NaN compete
  }
};

}  // namespace moue::inline v0_1
