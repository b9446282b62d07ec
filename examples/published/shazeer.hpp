// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Noisy top-k gating (Shazeer et al., arXiv 1701.06538): logits z = clean + noise deviation in training, where the deviation
// is learned as well, softplus of a second product plus 0.01; and losses that even out importance, the sum of a candidate's gates, and
// load, how probably tokens would select it if its noise were drawn again. Both are squared coefficients of variation over
// candidates. With nvcc, functors written as lambdas need --extended-lambda.

#include <array>
#include <cmath>
#include <moue/policies.hpp>

#include "variation.hpp"

namespace published {

/// Of the noise, from the column beside the logit.
template <class C>
MOUE_HD C deviation(C column) {
  return moue::detail::softplus(column) + C(0.01);
}

template <class Noise = normal_noise>
struct noisy_score {
  Noise noise = {};

  moue::index_t extra(moue::router_shape s) const { return s.candidates; }
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{"weight", s.candidates, s.width, {}, moue::scope::layer},
                      moue::parameter_spec{"noise", s.candidates, s.width, {}, moue::scope::layer}};
  }
  auto temporaries(moue::router_shape s) const { return std::array{moue::matrix_shape{s.tokens, s.candidates}}; }

  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& f, const auto& p, const auto&) const {
    ops.linear(f.features, p[0], f.logits, moue::store::add);
    ops.linear(f.features, p[1], f.extra);
    if (f.at.how == moue::mode::training)
      ops.each_element(f.logits.rows, f.logits.cols, [f, noise = noise] MOUE_HD(moue::index_t t, moue::index_t j) {
        f.logits(t, j) += C(noise(f.at, t, j)) * deviation(f.extra(t, j));
      });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& f, const moue::router_gradient<C>& g, const auto& p,
                const auto& temporary, const auto& dp) const {
    const auto d = temporary[0];
    ops.each_element(d.rows, d.cols, [d, f, g, noise = noise] MOUE_HD(moue::index_t t, moue::index_t j) {
      d(t, j) = g.extra(t, j) + g.logits(t, j) * C(noise(f.at, t, j)) * moue::detail::sigmoid(f.extra(t, j));
    });
    ops.input_gradient(g.logits, p[0], g.features, moue::store::add);
    ops.input_gradient(moue::matrix_view<const C>(d), p[1], g.features, moue::store::add);
    ops.weight_gradient(g.logits, f.features, dp[0]);
    ops.weight_gradient(moue::matrix_view<const C>(d), f.features, dp[1]);
  }
};

/// The gate of candidate j, 0 where it was not selected.
struct gate_of_candidate {
  template <class C>
  MOUE_HD C value(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    C sum = C(0);
    for (moue::index_t i = f.assigned.offsets[t]; i < f.assigned.offsets[t + 1]; ++i)
      if (f.assigned.column[i] == j) sum += f.assigned.gate[i];
    return sum;
  }
  template <class C>
  MOUE_HD void backward(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j, C d,
                        const moue::routing_gradient<C>& add) const {
    for (moue::index_t i = f.assigned.offsets[t]; i < f.assigned.offsets[t + 1]; ++i)
      if (f.assigned.column[i] == j) add.gates[i] += d;
  }
};

/// The probability that candidate j is selected if its noise is drawn again: that its clean logit and a new noise beat its
/// last rival, the best that was not selected, or the last that was.
template <class Noise = normal_noise>
struct selection_probability {
  Noise noise = {};

  template <class C>
  MOUE_HD C value(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    if (!moue::detail::is_finite(f.logits(t, j))) return C(0);
    return rival(f, t, j) < 0 ? C(1) : normal_below(margin(f, t, j));
  }
  template <class C>
  MOUE_HD void backward(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j, C d,
                        const moue::routing_gradient<C>& add) const {
    if (!moue::detail::is_finite(f.logits(t, j)) || rival(f, t, j) < 0) return;
    const C m = margin(f, t, j), e = f.extra(t, j);
    d *= normal_density(m) / deviation(e);
    add.logits(t, j) += d;
    add.logits(t, rival(f, t, j)) -= d;
    add.extra(t, j) -= d * (drawn(f, t, j) + m) * moue::detail::sigmoid(e);
  }

 private:
  /// In deviations.
  template <class C>
  MOUE_HD C margin(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    return (f.logits(t, j) - f.logits(t, rival(f, t, j))) / deviation(f.extra(t, j)) - drawn(f, t, j);
  }
  /// The noise that the logit has.
  template <class C>
  MOUE_HD C drawn(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) const {
    return f.at.how == moue::mode::training ? C(noise(f.at, t, j)) : C(0);
  }
  /// Its column, or −1 if there is none: all that are open were selected.
  template <class C>
  MOUE_HD static moue::index_t rival(const moue::layer_frame<C>& f, moue::index_t t, moue::index_t j) {
    const auto taken = f.selected.row(t);
    moue::index_t count = 0, best = -1;
    bool is_taken = false;
    for (; count < taken.size && taken[count] >= 0; ++count) is_taken = is_taken || taken[count] == j;
    if (!is_taken) return count > 0 ? taken[count - 1] : -1;
    for (moue::index_t i = 0; i < f.logits.cols; ++i) {
      bool other = moue::detail::is_finite(f.logits(t, i));
      for (moue::index_t c = 0; c < count; ++c) other = other && taken[c] != i;
      if (other && (best < 0 || f.logits(t, i) > f.logits(t, best))) best = i;
    }
    return best;
  }
};

}  // namespace published
