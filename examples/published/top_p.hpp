// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Dynamic routing (Huang et al., arXiv 2403.07652): a token takes as many experts as it needs to be sure, and a loss
// asks it to be sure soon.

#include <cmath>
#include <cstdint>
#include <limits>
#include <moue/policies.hpp>

namespace published {

/// The fewest candidates, best first, whose softmax probabilities sum to more than `p`; all of them if p is 1.
struct top_p {
  double p = 0.4;
  moue::index_t average =
      std::numeric_limits<moue::index_t>::max();  ///< experts per token, on the average: no batch has more

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }
  constexpr moue::index_t most_entries(moue::index_t tokens, moue::index_t candidates) const {
    return tokens * (average < candidates ? average : candidates);
  }
  template <class C>
  MOUE_HD moue::index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                                   moue::vector_view<std::int32_t> selected) const {
    const moue::index_t open = moue::top_k{scores.size}(scores, candidates, selected);
    const auto mass = [&](moue::index_t i) { return std::exp(scores[selected[i]] - scores[selected[0]]); };
    C total = C(0), sum = C(0);
    for (moue::index_t i = 0; i < open; ++i) total += mass(i);
    moue::index_t count = 0;
    while (count < open && !(sum > C(p) * total)) sum += mass(count++);
    return count;
  }
};
static_assert(moue::SelectStage<top_p>);

/// weight · mean entropy of p, which must be a softmax of the logits.
struct entropy_loss {
  double weight = 1e-4;

  template <class C>
  MOUE_HD C token_value(moue::vector_view<const C>, moue::vector_view<const C> p) const {
    C sum = C(0);
    for (const C x : p) sum -= x > C(0) ? x * std::log(x) : C(0);
    return C(weight) * sum;
  }
  template <class C>
  MOUE_HD void token_gradient(moue::vector_view<const C> logits, moue::vector_view<const C> p, C scale,
                              moue::vector_view<C> dlogits) const {
    const C entropy = token_value(logits, p);  // times the weight
    for (moue::index_t j = 0; j < p.size; ++j)
      if (p[j] > C(0)) dlogits[j] -= scale * p[j] * (C(weight) * std::log(p[j]) + entropy);
  }
};
static_assert(moue::TokenLoss<entropy_loss>);

}  // namespace published
