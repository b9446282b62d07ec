// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// V-MoE's noisy router and its losses (Riquelme et al., arXiv 2106.05974): noise of deviation 1 / n is added to the logits in
// training, and the losses even out importance (probabilities without noise) and load (the probability of being selected).

#include <cmath>
#include <moue/policies.hpp>

namespace published {

/// z + noise / n in training, z alone otherwise. `Noise` says what noise is.
struct counted_noise {
  MOUE_HD double operator()(const moue::visit& at, moue::index_t token, moue::index_t column) const {
    return moue::normal_at(at, token, column);
  }
};
template <class Noise = counted_noise>
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

/// Half the sum of the squared coefficients of variation of importance and load, in two parts.
template <class C, class Noise>
struct even_out {
  moue::layer_frame<C> frame;
  moue::matrix_view<C> sum;  // [1, n]
  bool load;
  double weight;
  Noise noise;
  C* value;        // of the loss, or null
  const C* scale;  // of its gradient
  moue::matrix_view<C> dlogits;

  MOUE_HD C deviation() const { return C(1) / C(sum.cols); }
  MOUE_HD C clean(moue::index_t t, moue::index_t j) const {
    const bool noisy = frame.at.how == moue::mode::training;
    return frame.logits(t, j) - (noisy ? deviation() * C(noise(frame.at, t, j)) : C(0));
  }
  /// Column of the last that was selected: its noisy logit is what others have to beat.
  MOUE_HD moue::index_t last(moue::index_t t) const {
    moue::index_t i = 0;
    while (i + 1 < frame.selected.cols && frame.selected(t, i + 1) >= 0) ++i;
    return frame.selected(t, i);
  }
  MOUE_HD C beats(moue::index_t t, moue::index_t j) const {
    return (clean(t, j) - frame.logits(t, last(t))) / deviation();
  }
  template <class F>
  MOUE_HD void each(const F& f) const {
    for (moue::index_t t = 0; t < frame.logits.rows; ++t) {
      if (!frame.batch.valid[t] || sum.cols == 0 || frame.selected.cols == 0) continue;
      C total = C(0);  // of the softmax without noise
      for (moue::index_t k = 0; k < sum.cols; ++k) total += std::exp(clean(t, k));
      for (moue::index_t j = 0; j < sum.cols; ++j)
        f(t, j, load ? std::erfc(-beats(t, j) / std::sqrt(C(2))) / C(2) : std::exp(clean(t, j)) / total);
    }
  }
  MOUE_HD void operator()(moue::index_t) const {
    const C n = C(sum.cols);
    for (moue::index_t j = 0; j < sum.cols; ++j) sum(0, j) = C(0);
    each([&](moue::index_t, moue::index_t j, C v) { sum(0, j) += v; });
    C mean = C(0), square = C(0);
    for (moue::index_t j = 0; j < sum.cols; ++j) mean += sum(0, j) / n;
    for (moue::index_t j = 0; j < sum.cols; ++j) square += (sum(0, j) - mean) * (sum(0, j) - mean) / n;
    if (mean == C(0)) mean = C(1);
    if (value != nullptr) {
      *value = C(weight) * square / (mean * mean);
      return;
    }
    const auto slope = [&](moue::index_t j) {  // of var / mean² by the sum of column j
      return C(2) / n * ((sum(0, j) - mean) / (mean * mean) - square / (mean * mean * mean)) * C(weight) * *scale;
    };
    each([&](moue::index_t t, moue::index_t j, C v) {
      if (load) {
        const C z = beats(t, j), density = std::exp(-z * z / C(2)) / std::sqrt(C(2) * C(3.14159265358979323846));
        dlogits(t, j) += slope(j) * density / deviation();
        dlogits(t, last(t)) -= slope(j) * density / deviation();
      } else {
        C along = C(0);
        C total = C(0);
        for (moue::index_t k = 0; k < sum.cols; ++k) total += std::exp(clean(t, k));
        for (moue::index_t k = 0; k < sum.cols; ++k) along += slope(k) * std::exp(clean(t, k)) / total;
        dlogits(t, j) += v * (slope(j) - along);
      }
    });
  }
};
/// weight · var / mean² over candidates, of the importance or of the load.
template <class Noise = counted_noise>
struct variation_loss {
  bool load = false;
  double weight = 0.5;
  Noise noise = {};

  auto temporaries(moue::layer_shape shape) const { return std::array{moue::matrix_shape{1, shape.candidates}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    ops.each_row(1, even_out<C, Noise>{frame, temporary[0], load, weight, noise, value.data, nullptr, {}});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto& temporary) const {
    ops.each_row(1, even_out<C, Noise>{frame, temporary[0], load, weight, noise, nullptr, scale.data, add.logits});
  }
};

}  // namespace published
