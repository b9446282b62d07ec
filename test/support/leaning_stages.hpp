// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Row stages that use all they may ask for: columns beside the logits, and parameters of their own.

#include <array>
#include <cmath>

#include "moue/policies.hpp"

namespace test {

/// z' = z + s (z - mean of the open z), with one parameter s a layer.
struct stretched {
  auto parameters(moue::router_shape) const {
    return std::array{moue::parameter_spec{.name = "stretch", .init = moue::initializer::constant(0.2)}};
  }
  template <class C>
  MOUE_HD void operator()(moue::vector_view<const C> logits, const auto& p, moue::vector_view<C> transformed) const {
    const C s = static_cast<C>(p[0](0, 0)), mean = mean_of_open(logits, logits);
    for (moue::index_t j = 0; j < logits.size; ++j) transformed[j] = logits[j] + s * (logits[j] - mean);
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C> logits, const auto& p, moue::vector_view<const C>,
                        moue::vector_view<const C> dtransformed, moue::vector_view<C> dlogits, const auto& dp) const {
    const C s = static_cast<C>(p[0](0, 0)), mean = mean_of_open(logits, logits);
    const C dmean = mean_of_open(logits, dtransformed);
    for (moue::index_t j = 0; j < logits.size; ++j) {
      if (!moue::detail::is_finite(logits[j])) continue;
      dlogits[j] += (C(1) + s) * dtransformed[j] - s * dmean;
      dp[0][0] += dtransformed[j] * (logits[j] - mean);
    }
  }

 private:
  template <class C>
  MOUE_HD static C mean_of_open(moue::vector_view<const C> logits, moue::vector_view<const C> of) {
    C sum = C(0);
    moue::index_t open = 0;
    for (moue::index_t j = 0; j < logits.size; ++j) open += moue::detail::is_finite(logits[j]);
    for (moue::index_t j = 0; j < logits.size; ++j)
      if (moue::detail::is_finite(logits[j])) sum += of[j] / C(open);  // a sum of large numbers may be infinite
    return sum;
  }
};

/// w = softmax of the selected + a tanh(e0) + b e1, with e the columns beside the logits.
struct leaning_gate {
  static constexpr bool reads_extra = true;
  auto parameters(moue::router_shape) const {
    return std::array{moue::parameter_spec{.name = "lean", .cols = 2, .init = moue::initializer::constant(0.3)}};
  }
  template <class C>
  MOUE_HD void forward(moue::vector_view<const C> logits, moue::vector_view<const C> extra,
                       moue::vector_view<const std::int32_t> selected, const auto& p,
                       moue::vector_view<C> gates) const {
    moue::softmax_of_selected{}.forward(logits, selected, gates);
    const C more = static_cast<C>(p[0](0, 0)) * std::tanh(extra[0]) + static_cast<C>(p[0](0, 1)) * extra[1];
    for (moue::index_t i = 0; i < selected.size; ++i) gates[i] += more;
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C>, moue::vector_view<const C> extra,
                        moue::vector_view<const std::int32_t> selected, const auto& p, moue::vector_view<const C> gates,
                        moue::vector_view<const C> dgates, moue::vector_view<C> dlogits, moue::vector_view<C> dextra,
                        const auto& dp) const {
    const C lean = std::tanh(extra[0]), a = static_cast<C>(p[0](0, 0)), b = static_cast<C>(p[0](0, 1));
    const C more = a * lean + b * extra[1];
    C sum = C(0), along = C(0);
    for (moue::index_t i = 0; i < selected.size; ++i) {
      sum += dgates[i];
      along += dgates[i] * (gates[i] - more);
    }
    for (moue::index_t i = 0; i < selected.size; ++i) dlogits[selected[i]] += (gates[i] - more) * (dgates[i] - along);
    dextra[0] += sum * a * (C(1) - lean * lean);
    dextra[1] += sum * b;
    dp[0][0] += sum * lean;
    dp[0][1] += sum * extra[1];
  }
};

/// p = softmax of z (1 + tanh(e0) / 4).
struct leaning_probability {
  static constexpr bool reads_extra = true;
  template <class C>
  MOUE_HD void forward(moue::vector_view<const C> logits, moue::vector_view<const C> extra,
                       moue::vector_view<C> p) const {
    const C slope = C(1) + std::tanh(extra[0]) / C(4);
    C most = moue::detail::minus_infinity<C>(), sum = C(0);
    for (moue::index_t j = 0; j < logits.size; ++j) most = logits[j] > most ? logits[j] : most;
    const bool open = most != moue::detail::minus_infinity<C>();
    for (moue::index_t j = 0; j < logits.size; ++j) sum += p[j] = open ? std::exp(slope * (logits[j] - most)) : C(0);
    for (moue::index_t j = 0; j < logits.size && open; ++j) p[j] /= sum;
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C> logits, moue::vector_view<const C> extra,
                        moue::vector_view<const C> p, moue::vector_view<const C> dp, moue::vector_view<C> dlogits,
                        moue::vector_view<C> dextra) const {
    const C lean = std::tanh(extra[0]), slope = C(1) + lean / C(4);
    C mean = C(0);
    for (moue::index_t j = 0; j < p.size; ++j) mean += p[j] * dp[j];
    for (moue::index_t j = 0; j < p.size; ++j) {
      if (p[j] == C(0)) continue;  // closed, whose logit is no number
      dlogits[j] += slope * p[j] * (dp[j] - mean);
      dextra[0] += p[j] * (dp[j] - mean) * logits[j] * (C(1) - lean * lean) / C(4);
    }
  }
};

}  // namespace test
