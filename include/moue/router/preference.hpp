// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Preference stages: the score that selection reads, which may differ from what gates are made of.

#include <array>
#include <cmath>

#include "moue/lanes.hpp"
#include "moue/math.hpp"
#include "moue/router.hpp"
#include "moue/router/probability.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// Minus infinity is a mark: nothing can be added to it that opens the candidate.
template <class C>
MOUE_HD C preferred(C score, C bias) {
  return bias == minus_infinity<C>() ? bias : score + bias;
}

}  // namespace detail

/// Selection reads the logits.
struct by_logits {
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, const auto&, vector_view<C> scores,
                          const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step()) scores[j] = logits[j];
  }
};

/// Selection reads z + b; gates and probabilities do not see b. The buffer `selection_bias` [1, candidates] per layer is
/// not trained; a controller sets it (loss-free balancing, arXiv 2408.15664). Minus infinity closes a candidate, whatever
/// its logit is.
struct biased_logits {
  auto parameters(router_shape s) const {
    return std::array{parameter_spec{"selection_bias", 1, s.candidates, {}, scope::layer, false}};
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, const auto& p, vector_view<C> scores,
                          const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      scores[j] = detail::preferred(logits[j], static_cast<C>(p[0](0, j)));
  }
};

/// Selection reads sigmoid(z) + b (DeepSeek-V3, arXiv 2412.19437); otherwise as `biased_logits`.
struct biased_sigmoid {
  auto parameters(router_shape s) const { return biased_logits{}.parameters(s); }
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, const auto& p, vector_view<C> scores,
                          const Lanes& lanes = {}) const {
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      scores[j] = detail::preferred(detail::sigmoid(logits[j]), static_cast<C>(p[0](0, j)));
  }
};

/// Selection reads softmax(z) + b, the softmax over all candidates (ERNIE 4.5, LongCat-Flash); otherwise as
/// `biased_logits`.
struct biased_softmax {
  auto parameters(router_shape s) const { return biased_logits{}.parameters(s); }
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, const auto& p, vector_view<C> scores,
                          const Lanes& lanes = {}) const {
    softmax_probability{}.forward(logits, scores, lanes);
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      scores[j] = detail::preferred(scores[j], static_cast<C>(p[0](0, j)));
  }
};

/// Selection reads the square root of softplus(z), + b (DeepSeek-V4); otherwise as `biased_logits`.
struct biased_root_of_softplus {
  auto parameters(router_shape s) const { return biased_logits{}.parameters(s); }
  template <class C, class Lanes = one_lane>
  MOUE_HD void operator()(vector_view<const C> logits, const auto& p, vector_view<C> scores,
                          const Lanes& lanes = {}) const {
    using std::sqrt;
    for (index_t j = lanes.first(); j < logits.size; j += lanes.step())
      scores[j] = sqrt(detail::softplus(logits[j])) + static_cast<C>(p[0](0, j));
  }
};

}  // namespace moue::inline v0_1
