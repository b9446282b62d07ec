// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A score that carries state from layer to layer: tokens turn away from experts they have been to.

#include <array>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

/// z_e = -a_l v_e, where v_e sums the gates with which the token has been sent to expert e by the layers before. The
/// state is v, one number for each of the `pool` physical experts.
struct avoid_visited {
  moue::index_t pool = 1;

  constexpr moue::index_t state_width() const { return pool; }
  auto parameters(moue::router_shape) const {
    return std::array{moue::parameter_spec{.name = "avoidance", .init = moue::initializer::constant(10)}};
  }

  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, [=, a = p[0]](moue::index_t t, moue::index_t j) {
      frame.logits(t, j) -= static_cast<C>(a(0, 0)) * frame.state(t, frame.candidates[j]);
    });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, [=, a = p[0]](moue::index_t t, moue::index_t j) {
      gradient.state(t, frame.candidates[j]) -= static_cast<C>(a(0, 0)) * gradient.logits(t, j);
    });
    const auto da = moue::accumulate(ops, dp[0]);
    ops.each_row(da.rows, [=](moue::index_t) {  // one row: every token adds to the same number
      for (moue::index_t t = 0; t < frame.logits.rows; ++t)
        for (moue::index_t j = 0; j < frame.logits.cols; ++j)
          da(0, 0) -= frame.state(t, frame.candidates[j]) * gradient.logits(t, j);
    });
  }

  template <class C>
  void advance(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_row(frame.state.rows, [=](moue::index_t t) {
      for (moue::index_t e = 0; e < frame.state.cols; ++e) frame.next_state(t, e) = frame.state(t, e);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j)
        frame.next_state(t, frame.candidates[j]) += frame.gates(t, j);
    });
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto&, const auto&, const auto&) const {
    ops.each_row(frame.state.rows, [=](moue::index_t t) {
      for (moue::index_t e = 0; e < frame.state.cols; ++e) gradient.state(t, e) += gradient.next_state(t, e);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j)
        gradient.gates(t, j) += gradient.next_state(t, frame.candidates[j]);
    });
  }
};
static_assert(moue::ScoreStage<avoid_visited>);

int main() {
  const auto report = moue::testing::check_score_laws(avoid_visited{.pool = moue::testing::law_shape.experts});
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());

  const moue::index_t tokens = 4, width = 8, depth = 5, pool = 5;
  const moue::router wandering{moue::score_sum{moue::linear_score{}, avoid_visited{.pool = pool}}, moue::top_k{1},
                               moue::softmax_of_selected{}};
  const moue::mixture model{moue::copy_expert{.width = width}, moue::shared_pool{.depth = depth, .pool = pool},
                            wandering};
  const auto weights = model.initialize<float>(8);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> data(tokens * width);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i));
  const moue::matrix_view<float> x{data.data(), tokens, width};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < depth; ++layer) pass.forward(layer, x, x);

  bool all = true;
  for (const float visits : pass.state(depth).row(0)) all = all && visits == 1;
  std::printf("token 0 was at every expert once: %s\n", all ? "yes" : "no");
  return report ? 0 : 1;
}
