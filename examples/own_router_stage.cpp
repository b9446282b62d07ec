// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A router of one's own stages: a score with parameters, a selection that takes few or many, and a gate.

#include <array>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

/// z_e = -|u - c_e|² / width: each candidate has a place, and near tokens go there.
struct distance_score {
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{
        .name = "place", .rows = s.candidates, .cols = s.width, .init = moue::initializer::normal(1)}};
  }

  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, [=, place = p[0]](moue::index_t t, moue::index_t e) {
      C sum = 0;
      for (moue::index_t j = 0; j < place.cols; ++j) {
        const C step = frame.features(t, j) - static_cast<C>(place(e, j));
        sum += step * step;
      }
      frame.logits(t, e) -= sum / C(place.cols);
    });
  }

  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    const auto slope = [=, place = p[0]](moue::index_t t, moue::index_t e, moue::index_t j) {
      return gradient.logits(t, e) * 2 * (static_cast<C>(place(e, j)) - frame.features(t, j)) / C(place.cols);
    };
    const auto dplace = moue::accumulate(ops, dp[0]);
    ops.each_element(frame.features.rows, frame.features.cols, [=](moue::index_t t, moue::index_t j) {
      for (moue::index_t e = 0; e < gradient.logits.cols; ++e) gradient.features(t, j) += slope(t, e, j);
    });
    ops.each_element(dplace.rows, dplace.cols, [=](moue::index_t e, moue::index_t j) {
      for (moue::index_t t = 0; t < frame.features.rows; ++t) dplace(e, j) -= slope(t, e, j);
    });
  }
};
static_assert(moue::ScoreStage<distance_score>);

/// The best candidate, and up to `limit` - 1 others whose score is at most `margin` lower.
struct within_margin {
  moue::index_t limit = 2;
  double margin = 0.5;

  constexpr moue::index_t max_selected(moue::index_t candidates) const {
    return limit < candidates ? limit : candidates;
  }

  template <class C>
  moue::index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                           moue::vector_view<std::int32_t> selected) const {
    moue::index_t count = moue::top_k{limit}(scores, candidates, selected);
    while (count > 1 && scores[selected[count - 1]] < scores[selected[0]] - C(margin)) --count;
    return count;
  }
};
static_assert(moue::SelectStage<within_margin>);

/// w_i = 1 / (1 + z_i²): 1 at the candidate's place, and falling with the distance.
struct bell_gate {
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
               moue::vector_view<C> gates) const {
    for (moue::index_t i = 0; i < selected.size; ++i) gates[i] = 1 / (1 + logits[selected[i]] * logits[selected[i]]);
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                moue::vector_view<const C> gates, moue::vector_view<const C> dgates,
                moue::vector_view<C> dlogits) const {
    for (moue::index_t i = 0; i < selected.size; ++i)
      dlogits[selected[i]] -= dgates[i] * gates[i] * gates[i] * 2 * logits[selected[i]];
  }
};
static_assert(moue::GateStage<bell_gate>);

int main() {
  const auto score = moue::testing::check_score_laws(distance_score{});
  const auto select = moue::testing::check_select_laws(within_margin{});
  const auto gate = moue::testing::check_gate_laws(bell_gate{});
  for (const auto& report : {score, select, gate})
    std::printf("%s: laws %s\n", report.subject().c_str(), report ? "hold" : report.summary().c_str());

  const moue::router near{distance_score{}, within_margin{.limit = 3, .margin = 0.4}, bell_gate{}};
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 8}, moue::shared_pool{.depth = 1, .pool = 6}, near};
  const auto weights = model.initialize<float>(1);
  const moue::pass_options options{.tokens = 5, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> x(5 * 4), y(5 * 4);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  pass.begin(5);
  pass.forward(0, {x.data(), 5, 4}, {y.data(), 5, 4});
  for (moue::index_t t = 0; t < 5; ++t) {
    std::printf("token %td:", t);
    for (const auto column : pass.selected(0).row(t)) std::printf(column < 0 ? " -" : " %d", column);
    std::printf("\n");
  }
  return score && select && gate ? 0 : 1;
}
