// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Logits for candidates that a layer gained after its router was trained.

#include <array>
#include <string>
#include <utility>

#include "moue/error.hpp"
#include "moue/router.hpp"
#include "moue/router/logit_bias.hpp"

namespace moue::inline v0_1 {
/// `score` for the first `home` candidates of every layer, and z_e = w_{l,e} · u + b_{l,e} for the candidates after them.
/// The home part runs the very products it would run alone, so that with every b at minus infinity the layer is bit-equal
/// to one without the foreign candidates. Layers may have any number of foreign candidates, also none; depth state that
/// `score` keeps sees the gates of home candidates only. Parameters: those of `score`, declared for `home` candidates,
/// then per layer `foreign` [candidates - home, width] and the buffer `opening` b [1, candidates - home], which starts
/// closed and is set by a schedule (`moue/convert/schedule.hpp`).
template <ScoreStage ScoreT>
struct extended_score {
  ScoreT score;                                               ///< of home candidates
  index_t home = 0;                                           ///< candidates of each layer that `score` scores
  double deviation = 0.02;                                    ///< of the initial foreign rows
  double initial_opening = detail::minus_infinity<double>();  ///< of every foreign candidate; minus infinity: closed

  constexpr index_t state_width(router_shape s) const requires detail::has_state_width<ScoreT> {
    return detail::stage_state_width(score, narrowed(s));
  }
  auto saved(router_shape s) const requires detail::has_stage_saved<ScoreT> { return score.saved(narrowed(s)); }
  constexpr index_t extra(router_shape s) const requires detail::has_extra<ScoreT> { return score.extra(narrowed(s)); }
  auto parameters(router_shape s) const {
    const index_t gained = foreign(s);
    return detail::join_arrays(
        detail::stage_parameters(score, narrowed(s)),
        std::array{parameter_spec{"foreign", gained, s.width, initializer::normal(deviation), scope::layer, true, true},
                   parameter_spec{"opening", 1, gained, initializer::constant(initial_opening), scope::layer, false}});
  }
  auto temporaries(router_shape s) const requires detail::has_stage_temporaries<ScoreT> {
    return score.temporaries(narrowed(s));
  }

  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    score.forward(ops, narrowed(frame), inner(p), temporary);
    const auto logits = frame.logits.column_block(home, frame.logits.cols - home);
    if (logits.cols == 0) return;
    ops.linear(frame.features, p[rows], logits, store::add);
    ops.each_element(logits.rows, logits.cols, detail::add_logit_bias{logits, p[rows + 1]});
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    if constexpr (detail::has_close<ScoreT>) score.close(ops, narrowed(frame), inner(p), temporary);
    const auto logits = frame.logits.column_block(home, frame.logits.cols - home);
    if (logits.cols > 0) ops.each_element(logits.rows, logits.cols, detail::close_by_bias{logits, p[rows + 1]});
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    score.backward(ops, narrowed(frame), narrowed(gradient), inner(p), temporary, inner(dp));
    const auto dlogits = gradient.logits.column_block(home, gradient.logits.cols - home);
    if (dlogits.cols == 0) return;
    ops.input_gradient(dlogits, p[rows], gradient.features, store::add);
    ops.weight_gradient(dlogits, frame.features, dp[rows]);
  }
  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p,
               const auto& temporary) const requires detail::has_state_width<ScoreT> {
    score.advance(ops, narrowed(frame), inner(p), temporary);
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary,
                        const auto& dp) const requires detail::has_state_width<ScoreT> {
    score.advance_backward(ops, narrowed(frame), narrowed(gradient), inner(p), temporary, inner(dp));
  }

 private:
  static constexpr std::size_t rows = detail::stage_parameter_count<ScoreT>;

  index_t foreign(const router_shape& s) const {
    detail::require(
        home >= 0 && home <= s.candidates, "extended_score",
        [&] {
          return "a layer has " + std::to_string(s.candidates) + " candidates, " + std::to_string(home) +
                 " of them at home";
        },
        "give every layer its home candidates first, and at least those");
    return s.candidates - home;
  }
  constexpr router_shape narrowed(router_shape s) const {
    s.candidates = home;
    return s;
  }
  /// Gates are there only while state advances.
  template <class M>
  M home_columns(const M& m) const {
    return m.cols == 0 ? m : m.column_block(0, home);
  }
  template <class C>
  router_frame<C> narrowed(router_frame<C> frame) const {
    frame.candidates.size = home;
    frame.logits = home_columns(frame.logits);
    frame.gates = home_columns(frame.gates);
    return frame;
  }
  template <class C>
  router_gradient<C> narrowed(router_gradient<C> gradient) const {
    gradient.logits = home_columns(gradient.logits);
    gradient.gates = home_columns(gradient.gates);
    return gradient;
  }
  static auto inner(const auto& all) { return detail::sub_array<0, rows>(all); }
};

template <class T>
extended_score(T, index_t) -> extended_score<T>;
template <class T>
extended_score(T, index_t, double) -> extended_score<T>;
template <class T>
extended_score(T, index_t, double, double) -> extended_score<T>;

}  // namespace moue::inline v0_1
