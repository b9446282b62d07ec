// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "moue/any/erase.hpp"
#include "moue/backend/reference.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/pass.hpp"
#include "moue/router/candidate_bias.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/router/query_score.hpp"
#include "moue/testing/model_laws.hpp"
#include "moue/testing/row_laws.hpp"
#include "moue/testing/select_laws.hpp"
#include "moue/testing/stage_laws.hpp"
#include "moue/topology/shared_pool.hpp"

namespace {

using numbers = std::vector<double>;
using columns = std::vector<std::int32_t>;

constexpr double exact = 1e-13;  // a few roundings of numbers near 1
constexpr double closed = -std::numeric_limits<double>::infinity();
constexpr double broken = std::numeric_limits<double>::quiet_NaN();

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

moue::vector_view<const double> view(const numbers& v) { return {v.data(), static_cast<moue::index_t>(v.size())}; }
moue::vector_view<double> view(numbers& v) { return {v.data(), static_cast<moue::index_t>(v.size())}; }
moue::vector_view<const std::int32_t> view(const columns& v) {
  return {v.data(), static_cast<moue::index_t>(v.size())};
}

template <class G>
numbers gates_of(const G& gate, const numbers& logits, const columns& selected) {
  numbers gates(selected.size(), broken);
  gate.forward(view(logits), view(selected), view(gates));
  return gates;
}
template <class G>
numbers gradient_of(const G& gate, const numbers& logits, const columns& selected, const numbers& dgates) {
  const numbers gates = gates_of(gate, logits, selected);
  numbers dlogits(logits.size(), 0);
  gate.backward(view(logits), view(selected), view(gates), view(dgates), view(dlogits));
  return dlogits;
}
template <class T>
columns take(const T& stage, const numbers& scores, columns ids = {}) {
  if (ids.empty()) {
    ids.resize(scores.size());
    std::iota(ids.begin(), ids.end(), 0);
  }
  columns taken(static_cast<std::size_t>(stage.max_selected(static_cast<moue::index_t>(scores.size()))), -1);
  taken.resize(static_cast<std::size_t>(
      stage(view(scores), view(ids), moue::vector_view<std::int32_t>{taken.data(), std::ssize(taken)})));
  return taken;
}
template <class T>
numbers scores_of(const T& stage, const numbers& logits, numbers bias) {
  numbers scores(logits.size(), broken);
  const std::array p{moue::matrix_view<const double>(bias.data(), 1, std::ssize(bias))};
  stage(view(logits), p, view(scores));
  return scores;
}
numbers softmax(const numbers& logits) {
  numbers p(logits.size());
  moue::softmax_probability{}.forward(view(logits), view(p));
  return p;
}
double total(const numbers& v) { return std::accumulate(v.begin(), v.end(), 0.0); }
void same(const numbers& a, const numbers& b, double tolerance = exact) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(tolerance));
}

const numbers z{0.3, -1.2, 2.1, 0.9, -0.4};
const columns some{2, 3};
const numbers g{0.7, -1.9};

}  // namespace

TEST_CASE("score stages obey the laws") {
  obeys(moue::testing::check_score_laws(moue::linear_score{}));
  obeys(moue::testing::check_score_laws(moue::normalised_score{}));
  obeys(moue::testing::check_score_laws(moue::keyed_score{}));
  obeys(moue::testing::check_score_laws(moue::logit_bias{}));
  obeys(moue::testing::check_score_laws(moue::candidate_bias{}));
  obeys(moue::testing::check_score_laws(moue::query_score{.rank = 3}));
  obeys(moue::testing::check_score_laws(moue::trajectory{.rank = 3, .decay = 0.7}));
  obeys(moue::testing::check_score_laws(
      moue::score_sum{moue::trajectory{.rank = 2}, moue::logit_bias{}, moue::query_score{.rank = 3}}));
  obeys(moue::testing::check_score_laws(moue::keyed_score{}, {.tokens = 2, .width = 1, .candidates = 1, .experts = 1}));
}

TEST_CASE("feature stages obey the laws") {
  obeys(moue::testing::check_feature_laws(moue::input_features{}));
  obeys(moue::testing::check_feature_laws(moue::rms_features{}));
  obeys(moue::testing::check_feature_laws(moue::rms_features{.epsilon = 0.1}));
}

TEST_CASE("row stages obey the laws") {
  obeys(moue::testing::check_select_laws(moue::top_k<1>{}));
  obeys(moue::testing::check_select_laws(moue::top_k<3>{}));
  obeys(moue::testing::check_select_laws(moue::top_k{2}));
  obeys(moue::testing::check_select_laws(moue::top_k{99}));
  obeys(moue::testing::check_select_laws(moue::top_k{0}));
  obeys(moue::testing::check_gate_laws(moue::softmax_of_selected{}));
  obeys(moue::testing::check_gate_laws(moue::softmax_of_selected{1.5}));
  obeys(moue::testing::check_gate_laws(moue::softmax_then_select{}));
  obeys(moue::testing::check_gate_laws(moue::softmax_then_select{16}));
  obeys(moue::testing::check_gate_laws(moue::sigmoid_gate{2}));
  obeys(moue::testing::check_gate_laws(moue::sigmoid_renormalised{2.5}));
  obeys(moue::testing::check_gate_laws(moue::root_of_softplus_renormalised{2.5}));
  obeys(moue::testing::check_probability_laws(moue::softmax_probability{}));
  obeys(moue::testing::check_probability_laws(moue::sigmoid_probability{}));
  obeys(moue::testing::check_preference_laws(moue::by_logits{}));
  obeys(moue::testing::check_preference_laws(moue::biased_logits{}));
  obeys(moue::testing::check_preference_laws(moue::biased_sigmoid{}));
  obeys(moue::testing::check_preference_laws(moue::biased_softmax{}));
  obeys(moue::testing::check_preference_laws(moue::biased_root_of_softplus{}));
}

TEST_CASE("top_k takes the best in decreasing order") {
  CHECK(take(moue::top_k{3}, z) == columns{2, 3, 0});
  CHECK(take(moue::top_k<3>{}, z) == columns{2, 3, 0});
  CHECK(take(moue::top_k{9}, z) == columns{2, 3, 0, 4, 1});
  CHECK(take(moue::top_k{2}, {1, 1, 1}, {7, 3, 5}) == columns{1, 2});  // ties by expert id, not by column
  CHECK(take(moue::top_k{2}, {closed, -5, closed}) == columns{1});
  CHECK(take(moue::top_k{2}, {closed, closed}).empty());
  CHECK(take(moue::top_k{2}, {1, broken, 3}) == columns{1, 2});  // a broken score is not passed over
  CHECK(take(moue::top_k{2}, {-closed, broken, 3}) == columns{1, 0});
}

TEST_CASE("R1: with k = E the gates are the dense softmax") {
  const columns all = take(moue::top_k{5}, z);
  const numbers p = softmax(z);
  for (const auto& gates :
       {gates_of(moue::softmax_of_selected{}, z, all), gates_of(moue::softmax_then_select{}, z, all)})
    for (std::size_t i = 0; i < all.size(); ++i)
      CHECK(gates[i] == doctest::Approx(p[static_cast<std::size_t>(all[i])]).epsilon(exact));
}

TEST_CASE("R1: renormalised gates do not see a constant, nor what stays unselected") {
  const numbers gates = gates_of(moue::softmax_of_selected{}, z, some);
  numbers lifted = z, others = z;
  for (auto& v : lifted) v += 3;
  others[0] = -7;
  others[4] = 0.5;
  same(gates_of(moue::softmax_of_selected{}, lifted, some), gates);
  CHECK(gates_of(moue::softmax_of_selected{}, others, some) == gates);
  CHECK(gates_of(moue::softmax_then_select{}, others, some) != gates_of(moue::softmax_then_select{}, z, some));
}

TEST_CASE("softmax of the selected equals softmax, select, divide by the sum, in values and gradients") {
  numbers w = gates_of(moue::softmax_then_select{}, z, some);
  const double sum = total(w);
  for (auto& v : w) v /= sum;
  same(gates_of(moue::softmax_of_selected{}, z, some), w);
  const double mean = w[0] * g[0] + w[1] * g[1];
  const numbers through_division{(g[0] - mean) / sum, (g[1] - mean) / sum};
  same(gradient_of(moue::softmax_then_select{}, z, some, through_division),
       gradient_of(moue::softmax_of_selected{}, z, some, g));
}

TEST_CASE("a scale multiplies the gates of softmax_then_select and their gradients") {
  const numbers gates = gates_of(moue::softmax_then_select{}, z, some);
  same(gates_of(moue::softmax_then_select{16}, z, some), {16 * gates[0], 16 * gates[1]});
  numbers d = gradient_of(moue::softmax_then_select{}, z, some, g);
  for (auto& v : d) v *= 16;
  same(gradient_of(moue::softmax_then_select{16}, z, some, g), d);
}

TEST_CASE("with k = 1 a renormalised gate gives the router no gradient, the plain softmax does") {
  CHECK(gradient_of(moue::softmax_of_selected{}, z, {2}, {5}) == numbers(5, 0));
  CHECK(gradient_of(moue::sigmoid_renormalised{2.5}, z, {2}, {5}) == numbers(5, 0));
  for (const double d : gradient_of(moue::softmax_then_select{}, z, {2}, {5})) CHECK(d != 0);
}

TEST_CASE("gate gradients are the closed forms B1 to B4") {
  const numbers p = softmax(z);
  const auto at = [](const numbers& v, std::int32_t i) { return v[static_cast<std::size_t>(i)]; };
  {  // B1: dz_i = w_i (g_i - sum_j w_j g_j), zero elsewhere; rows sum to 0
    const numbers w = gates_of(moue::softmax_of_selected{}, z, some);
    numbers expected(5, 0);
    for (std::size_t i = 0; i < 2; ++i)
      expected[static_cast<std::size_t>(some[i])] = w[i] * (g[i] - w[0] * g[0] - w[1] * g[1]);
    const numbers d = gradient_of(moue::softmax_of_selected{}, z, some, g);
    same(d, expected);
    CHECK(std::abs(total(d)) < exact);
  }
  {  // B2: dz_j = p_j (m_j g_j - sum_S p_i g_i)
    const double mean = at(p, 2) * g[0] + at(p, 3) * g[1];
    numbers expected;
    for (const double v : p) expected.push_back(-v * mean);
    expected[2] += at(p, 2) * g[0];
    expected[3] += at(p, 3) * g[1];
    same(gradient_of(moue::softmax_then_select{}, z, some, g), expected);
  }
  const numbers s{1 / (1 + std::exp(-z[2])), 1 / (1 + std::exp(-z[3]))};
  {  // B3: dz_i = s_i (1 - s_i) g_i
    same(gradient_of(moue::sigmoid_gate{}, z, some, g), {0, 0, s[0] * (1 - s[0]) * g[0], s[1] * (1 - s[1]) * g[1], 0});
  }
  {  // B4: ds_i = a / sum_S s (g_i - sum_j w_j / a g_j)
    const double a = 2.5, sum = s[0] + s[1], mean = (s[0] * g[0] + s[1] * g[1]) / sum;
    same(gradient_of(moue::sigmoid_renormalised{a}, z, some, g),
         {0, 0, a / sum * (g[0] - mean) * s[0] * (1 - s[0]), a / sum * (g[1] - mean) * s[1] * (1 - s[1]), 0});
  }
}

TEST_CASE("R11: gates sum to the scale, also where all sigmoids underflow") {
  CHECK(total(gates_of(moue::sigmoid_renormalised{2.5}, z, some)) == doctest::Approx(2.5).epsilon(exact));
  same(gates_of(moue::sigmoid_renormalised{2.5}, {-900, -901, -900}, {0, 2}), {1.25, 1.25});
  same(gates_of(moue::sigmoid_renormalised{1}, {900, 901}, {0, 1}), {0.5, 0.5});
  const auto root = [](double x) { return std::sqrt(std::log1p(std::exp(x))); };
  const double a = root(2.1), b = root(0.9);
  same(gates_of(moue::root_of_softplus_renormalised{1.5}, z, some), {1.5 * a / (a + b), 1.5 * b / (a + b)});
  same(gates_of(moue::root_of_softplus_renormalised{2}, {-900, -901, -900}, {0, 2}), {1, 1});
  same(gates_of(moue::root_of_softplus_renormalised{1}, {400, 100}, {0, 1}), {2.0 / 3, 1.0 / 3});
  same(scores_of(moue::biased_root_of_softplus{}, {2.1, -900}, {0.5, -1}), {a + 0.5, -1});
  CHECK(total(gates_of(moue::softmax_then_select{}, z, some)) < 1);
}

TEST_CASE("R11: a selection bias moves the selection alone") {
  const moue::top_k<2> best;
  CHECK(take(best, scores_of(moue::biased_sigmoid{}, z, {0, 0, 0, 0, 0})) == columns{2, 3});
  CHECK(take(best, scores_of(moue::biased_sigmoid{}, z, {0, 0, 0.01, 0.02, 0})) == columns{2, 3});
  CHECK(take(best, scores_of(moue::biased_sigmoid{}, z, {0, 5, 0, 0, 0})) == columns{1, 2});
  CHECK(take(best, scores_of(moue::biased_logits{}, z, {0, 5, 0, 0, 0})) == columns{1, 2});
  CHECK(take(best, scores_of(moue::biased_logits{}, z, {0, 0, closed, 0, 0})) == columns{3, 0});
  CHECK(scores_of(moue::by_logits{}, z, {9, 9, 9, 9, 9}) == z);
}

namespace {

/// The output of a mixture of two of four experts that selects by sigmoid plus `bias`.
numbers biased_output(const numbers& bias) {
  constexpr moue::index_t tokens = 6, width = 3;
  const moue::mixture model{
      moue::swiglu{width, 4}, moue::shared_pool{1, 4},
      moue::router{moue::linear_score{.deviation = 1}, moue::top_k<2>{}, moue::sigmoid_renormalised{2.5}}.with(
          moue::biased_sigmoid{}),
      moue::no_balancing{}, moue::reference{}};
  auto weights = model.initialize<double>(1);
  std::copy(bias.begin(), bias.end(), weights["layers.0.router.selection_bias"].data);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  numbers x(tokens * width), y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = moue::detail::normal_at(4, i);
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  return y;
}

}  // namespace

TEST_CASE("R11: a bias that changes no selection changes no bit of the output") {
  const numbers plain = biased_output({0, 0, 0, 0});
  CHECK(biased_output({1e-6, -1e-6, 2e-6, 0}) == plain);
  CHECK(biased_output({5, 5, 5, 5}) == plain);
  CHECK(biased_output({5, 0, 0, 0}) != plain);
}

TEST_CASE("probabilities of closed rows and of far-off logits") {
  CHECK(softmax({closed, closed}) == numbers{0, 0});
  same(softmax({1e4, 1e4, -1e4}), {0.5, 0.5, 0});
  numbers p(3);
  moue::sigmoid_probability{}.forward(view(numbers{-900, -900, closed}), view(p));
  same(p, {0.5, 0.5, 0});
}

namespace {

template <class T>
using score_trial = moue::testing::detail::stage_trial<T, false>;

constexpr moue::router_shape shape = moue::testing::law_shape;

}  // namespace

TEST_CASE("linear and normalised logits are the products of their definitions") {
  const moue::linear_score plain;
  const moue::normalised_score stage;
  score_trial<moue::linear_score> linear(plain, shape);
  score_trial<moue::normalised_score> normalised(stage, shape);
  linear.forward(0);
  normalised.forward(0);
  for (moue::index_t t = 0; t < shape.tokens; ++t)
    for (moue::index_t j = 0; j < shape.candidates; ++j) {
      double dot = 0, along = 0, square = 0;
      for (moue::index_t i = 0; i < shape.width; ++i) {
        dot += linear.p[0](j, i) * linear.features(t, i);
        along += normalised.p[0](j, i) * normalised.features(t, i);
        square += normalised.p[0](j, i) * normalised.p[0](j, i);
      }
      CHECK(linear.logits(t, j) == doctest::Approx(dot).epsilon(exact));
      CHECK(normalised.logits(t, j) ==
            doctest::Approx(normalised.p[1](0, 0) * along / std::sqrt(square + 1e-12)).epsilon(exact));
    }
}

TEST_CASE("a candidate bias is the bias of a linear map, and its gradient the sum over tokens") {
  const moue::score_sum stage{moue::linear_score{}, moue::candidate_bias{}};
  const moue::linear_score plain;
  score_trial<decltype(stage)> trial(stage, shape);
  score_trial<moue::linear_score> without(plain, shape);
  trial.forward(0);
  without.forward(0);
  trial.backward();
  for (moue::index_t j = 0; j < shape.candidates; ++j) {
    double sum = 0;
    for (moue::index_t t = 0; t < shape.tokens; ++t) {
      CHECK(trial.logits(t, j) == doctest::Approx(without.logits(t, j) + trial.p[1](0, j)).epsilon(exact));
      sum += trial.dlogits(t, j);
    }
    CHECK(trial.dp[1](0, j) == doctest::Approx(sum).epsilon(exact));
  }
}

TEST_CASE("normalised logits do not see the length of a row, and a shared key of zero changes nothing") {
  const moue::normalised_score stage;
  const moue::keyed_score with_key;
  score_trial<moue::normalised_score> trial(stage, shape), longer(stage, shape);
  score_trial<moue::keyed_score> keyed(with_key, shape);
  longer.p[0].each([](double& v, moue::index_t, moue::index_t) { v *= 1000; });
  keyed.p[2].fill(0);
  trial.forward(0);
  longer.forward(0);
  keyed.forward(0);
  // The norm's epsilon of 1e-12 beside a squared norm of 6 · 0.02² = 2e-3.
  moue::testing::law_report report("logits");
  moue::testing::detail::expect_close(report, "scale", "z", longer.logits, trial.logits, 1e-9);
  moue::testing::detail::expect_close(report, "key", "z", keyed.logits, trial.logits, 1e-12);
  obeys(report);
}

TEST_CASE("the trajectory state decays and collects the keys of selected experts") {
  const moue::trajectory stage{.rank = 3, .decay = 0.25};
  score_trial<moue::trajectory> trial(stage, shape);
  trial.forward(0);
  trial.advance();
  for (moue::index_t t = 0; t < shape.tokens; ++t) {
    for (moue::index_t r = 0; r < 3; ++r) {
      double expected = 0.25 * trial.state(t, r);
      for (moue::index_t j = 0; j < shape.candidates; ++j)
        expected += trial.gates(t, j) * trial.p[1](trial.candidates[static_cast<std::size_t>(j)], r);
      CHECK(trial.next_state(t, r) == doctest::Approx(expected).epsilon(exact));
    }
    for (moue::index_t j = 0; j < shape.candidates; ++j) {
      double expected = 0;
      for (moue::index_t r = 0; r < 3; ++r)
        for (moue::index_t s = 0; s < 3; ++s)
          expected +=
              trial.p[0](r, s) * trial.state(t, s) * trial.p[1](trial.candidates[static_cast<std::size_t>(j)], r);
      CHECK(trial.logits(t, j) == doctest::Approx(expected).epsilon(exact));
    }
  }
}

TEST_CASE("rms features have mean square 1 and do not see the scale of the input") {
  const moue::rms_features stage;
  moue::testing::detail::stage_trial<moue::rms_features, true> trial(stage, shape), scaled(stage, shape);
  scaled.input.each([](double& v, moue::index_t, moue::index_t) { v *= 1000; });
  trial.forward(0);
  scaled.forward(0);
  for (moue::index_t t = 0; t < shape.tokens; ++t) {
    double square = 0;
    for (const double v : trial.features.row(t)) square += v * v;
    CHECK(square / double(shape.width) == doctest::Approx(1).epsilon(1e-11));  // epsilon is 1e-12
    for (moue::index_t j = 0; j < shape.width; ++j)
      CHECK(scaled.features(t, j) == doctest::Approx(trial.features(t, j)).epsilon(1e-11));
  }
}

TEST_CASE("with exchanges one stage and keeps the others") {
  const auto base = moue::router{moue::linear_score{.deviation = 0.5}, moue::top_k{3}, moue::sigmoid_gate{2}};
  const auto changed = base.with(moue::rms_features{.epsilon = 0.25})
                           .with(moue::biased_sigmoid{})
                           .with(moue::sigmoid_probability{})
                           .with(moue::non_finite::mask);
  CHECK(changed.score.deviation == 0.5);
  CHECK(changed.select.k() == 3);
  CHECK(changed.gate.scale == 2);
  CHECK(changed.features.epsilon == 0.25);
  CHECK(changed.on_non_finite == moue::non_finite::mask);
  CHECK(base.on_non_finite == moue::non_finite::propagate);
  static_assert(std::is_same_v<decltype(changed.preference), moue::biased_sigmoid>);
  static_assert(std::is_same_v<decltype(changed.probability), moue::sigmoid_probability>);
}

namespace {

/// Features with a state of two columns that turn round each other: next = (gate sum - s_1, s_0), u = x + s_0.
struct turning_features {
  constexpr moue::index_t width(moue::index_t input) const { return input; }
  constexpr moue::index_t state_width() const { return 2; }
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.features.rows, frame.features.cols, [=](moue::index_t t, moue::index_t j) {
      frame.features(t, j) = frame.input(t, j) + frame.state(t, 0);
    });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto&, const auto&, const auto&) const {
    ops.each_row(frame.features.rows, [=](moue::index_t t) {
      for (moue::index_t j = 0; j < frame.features.cols; ++j) {
        gradient.input(t, j) += gradient.features(t, j);
        gradient.state(t, 0) += gradient.features(t, j);
      }
    });
  }
  template <class C>
  void advance(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_row(frame.state.rows, [=](moue::index_t t) {
      C sum = -frame.state(t, 1);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j) sum += C(j + 1) * frame.gates(t, j);
      frame.next_state(t, 0) = sum;
      frame.next_state(t, 1) = frame.state(t, 0);  // written in place this would be the sum
    });
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto&, const auto&, const auto&) const {
    ops.each_row(frame.state.rows, [=](moue::index_t t) {
      gradient.state(t, 0) += gradient.next_state(t, 1);
      gradient.state(t, 1) -= gradient.next_state(t, 0);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j) gradient.gates(t, j) += C(j + 1) * gradient.next_state(t, 0);
    });
  }
};

}  // namespace

TEST_CASE("two stages with state keep it side by side, in inference as in training") {
  const auto model = moue::erase<double>(
      moue::mixture{moue::swiglu{4, 3}, moue::shared_pool{3, 4},
                    moue::router{moue::score_sum{moue::linear_score{1}, moue::trajectory{.rank = 3}}, moue::top_k{2},
                                 moue::softmax_then_select{}}
                        .with(turning_features{}),
                    moue::no_balancing{}, moue::reference{}});
  CHECK(model->state_width() == 5);
  obeys(moue::testing::check_gradients(*model));
  auto weights = model->initialize(1);
  for (const auto& info : *model->layout())
    if (info.name.ends_with("trajectory_map"))
      for (moue::index_t i = 0; i < info.size(); ++i) weights[info.name].data[i] = 0.1 * static_cast<double>(i + 1);
  const auto run = [&](moue::mode how) {
    const moue::pass_options options{.tokens = 3, .how = how};
    moue::workspace scratch(model->workspace_bytes(options));
    const auto pass = model->start(weights, options, scratch);
    numbers x(12), all;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = moue::detail::normal_at(3, i);
    pass->begin(3);
    for (moue::index_t l = 0; l < model->layers(); ++l) {
      pass->forward(l, {x.data(), 3, 4}, {x.data(), 3, 4});
      all.insert(all.end(), x.begin(), x.end());
    }
    const auto state = pass->state_out();
    for (moue::index_t t = 0; t < 3; ++t) all.insert(all.end(), state.row(t).begin(), state.row(t).end());
    return all;
  };
  CHECK(run(moue::mode::inference) == run(moue::mode::training));
}
