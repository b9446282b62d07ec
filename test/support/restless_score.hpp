// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A score stage that uses all a stage is given: noise of its own, matrices that it saves, and state that sees the logits.

#include <array>
#include <cmath>

#include "moue/gradients/targets.hpp"
#include "moue/random.hpp"
#include "moue/router.hpp"

namespace test {

namespace restless {

using moue::index_t;
using moue::matrix_view;

template <class C, class W>
struct forward {
  moue::visit at;
  W weight;
  matrix_view<const C> state;
  matrix_view<C> noise, logits, extra;
  MOUE_HD void operator()(index_t t, index_t j) const {
    noise(t, j) = static_cast<C>(moue::normal_at(at, t, j) + moue::uniform_at(at, t, j + logits.cols));
    logits(t, j) += static_cast<C>(weight(0, j)) * noise(t, j) + C(0.1) * state(t, j);
    if (j < extra.cols) extra(t, j) = static_cast<C>(weight(0, j)) + C(0.3) * state(t, j);
  }
};
template <class C>
struct backward {
  matrix_view<const C> noise, dlogits, dextra;
  matrix_view<C> product, dstate;
  MOUE_HD void operator()(index_t t, index_t j) const {
    product(t, j) = dlogits(t, j) * noise(t, j);
    dstate(t, j) += C(0.1) * dlogits(t, j);
    if (j >= dextra.cols) return;
    product(t, j) += dextra(t, j);
    dstate(t, j) += C(0.3) * dextra(t, j);
  }
};
template <class C>
struct advance {
  matrix_view<const C> state, logits, extra;
  matrix_view<C> next;
  MOUE_HD void operator()(index_t t, index_t j) const {
    next(t, j) = C(0.5) * state(t, j) + C(0.2) * std::tanh(logits(t, j)) + C(0.1) * extra(t, j % 2);
  }
};
template <class C>
struct advance_backward {
  matrix_view<const C> logits, dnext;
  matrix_view<C> dstate, dlogits, dextra;
  MOUE_HD void operator()(index_t t, index_t j) const {
    if (j < 2)
      for (index_t k = j; k < dnext.cols; k += 2) dextra(t, j) += C(0.1) * dnext(t, k);
    const C value = std::tanh(logits(t, j));
    dstate(t, j) += C(0.5) * dnext(t, j);
    dlogits(t, j) += C(0.2) * (C(1) - value * value) * dnext(t, j);
  }
};

}  // namespace restless

/// z_j = w_j noise_j + s_j / 10, where the state s' = s / 2 + tanh(logits) / 5 + e_(j mod 2) / 10 has a number for every
/// candidate, and e_j = w_j + 3 s_j / 10 are two columns beside the logits.
struct restless_score {
  constexpr moue::index_t state_width(moue::router_shape s) const { return s.candidates; }
  auto saved(moue::router_shape s) const { return std::array{s.candidates}; }
  moue::index_t extra(moue::router_shape) const { return 2; }
  auto parameters(moue::router_shape s) const {
    return std::array{
        moue::parameter_spec{.name = "noise", .cols = s.candidates, .init = moue::initializer::constant(0.3)}};
  }
  auto temporaries(moue::router_shape s) const { return std::array{moue::matrix_shape{s.tokens, s.candidates}}; }

  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     restless::forward<C, std::remove_cvref_t<decltype(p[0])>>{
                         frame.at, p[0], frame.state, frame.saved[0], frame.logits, frame.extra});
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto&, const auto& temporary, const auto& dp) const {
    ops.each_element(
        frame.logits.rows, frame.logits.cols,
        restless::backward<C>{frame.saved[0], gradient.logits, gradient.extra, temporary[0], gradient.state});
    ops.column_sum(moue::matrix_view<const C>(temporary[0]), dp[0]);
  }
  template <class C>
  void advance(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     restless::advance<C>{frame.state, frame.logits, frame.extra, frame.next_state});
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto&, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     restless::advance_backward<C>{frame.logits, gradient.next_state, gradient.state, gradient.logits,
                                                   gradient.extra});
  }
};

}  // namespace test
