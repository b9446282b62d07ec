// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// V-MoE's noisy router and its losses (Riquelme et al., arXiv 2106.05974): noise of deviation 1 / n is added to the logits in
// training, and losses, the `variation_of` what is below, even out importance (probabilities without noise) and load (the probability of being selected).

#include <cmath>
#include <moue/policies.hpp>

#include "variation.hpp"

namespace published {

/// z + noise / n in training, z alone otherwise. `Noise` says what noise is.
template <class Noise = normal_noise>
struct noise_score {
  Noise noise = {};

  template <class C>
  struct add {
    moue::visit at;
    moue::matrix_view<C> logits;
    Noise noise;
    MOUE_HD void operator()(moue::index_t t, moue::index_t j) const {
      logits(t, j) += C(noise(at, t, j)) / C(logits.cols);
    }
  };
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    if (frame.at.how == moue::mode::training)
      ops.each_element(frame.logits.rows, frame.logits.cols, add<C>{frame.at, frame.logits, noise});
  }
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};

/// The logit of candidate j without its noise, whose deviation is 1 / n.
template <class C, class Noise>
MOUE_HD C clean_logit(const moue::layer_frame<C>& f, const Noise& noise, moue::index_t t, moue::index_t j) {
  const bool noisy = f.at.how == moue::mode::training;
  return f.logits(t, j) - (noisy ? C(noise(f.at, t, j)) / C(f.logits.cols) : C(0));
}

/// Importance, for `variation_of`: the probability of candidate j without noise.
template <class Noise = normal_noise>
struct clean_probability {
  Noise noise = {};

  template <class C>
  MOUE_HD C value(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    C total = C(0);
    for (moue::index_t k = 0; k < f.logits.cols; ++k)
      total += std::exp(clean_logit(f, noise, t, k) - clean_logit(f, noise, t, j));
    return moue::detail::is_finite(f.logits(t, j)) ? C(1) / total : C(0);
  }
  template <class C>
  MOUE_HD void backward(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j, C d,
                        const moue::routing_gradient<C>& add) const {
    if (!moue::detail::is_finite(f.logits(t, j))) return;
    const C p = value(f, t, j);
    for (moue::index_t k = 0; k < f.logits.cols; ++k)
      add.logits(t, k) -= d * p * p * std::exp(clean_logit(f, noise, t, k) - clean_logit(f, noise, t, j));
    add.logits(t, j) += d * p;
  }
};

/// Load, likewise: the probability that candidate j beats the last that was selected if its noise is drawn again.
template <class Noise = normal_noise>
struct beating_probability {
  Noise noise = {};

  template <class C>
  MOUE_HD C value(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    const moue::index_t last = last_of(f, t);
    return last < 0 || !moue::detail::is_finite(f.logits(t, j)) ? C(0) : normal_below(margin(f, t, j, last));
  }
  template <class C>
  MOUE_HD void backward(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j, C d,
                        const moue::routing_gradient<C>& add) const {
    const moue::index_t last = last_of(f, t);
    if (last < 0 || !moue::detail::is_finite(f.logits(t, j))) return;
    d *= normal_density(margin(f, t, j, last)) * C(f.logits.cols);
    add.logits(t, j) += d;
    add.logits(t, last) -= d;
  }

 private:
  /// In deviations.
  template <class C>
  MOUE_HD C margin(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j, moue::index_t last) const {
    return (clean_logit(f, noise, t, j) - f.logits(t, last)) * C(f.logits.cols);
  }
  /// The column that was selected last: its noisy logit is what others have to beat. −1 if none was.
  template <class C>
  MOUE_HD static moue::index_t last_of(const moue::layer_frame<C>& f, moue::index_t t) {
    moue::index_t last = -1;
    for (const auto column : f.selected.row(t)) last = column >= 0 ? column : last;
    return last;
  }
};

}  // namespace published
