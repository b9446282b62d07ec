// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What the first open connections do to a converted mixture, and what odd sources become.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "conversion.hpp"
#include "moue/router/foreign_bias.hpp"

namespace {

using namespace moue::convert;

template <moue::Storage S, class MixtureT>
auto run(const MixtureT& model, const moue::parameters<S>& weights, moue::index_t tokens = 40) {
  const auto erased = test::erase<S>(model);
  return test::run_stack<S>(*erased, weights, test::random_input<S>(*erased, tokens, 6));
}

}  // namespace

TEST_CASE("an open connection below the k-th logit changes nothing if gates are renormalised, and only scales if not") {
  using test::convention;
  for (const auto which : {convention::softmax_of_selected, convention::renormalised_biased, convention::sigmoid,
                           convention::softmax_then_select}) {
    const moue::mixture source{moue::swiglu{5, 4}, moue::table{6, {{0, 1, 2, 3}}},
                               moue::router{moue::linear_score{}, moue::top_k{2}, test::chosen_gate{which}},
                               moue::no_balancing{}, moue::reference{}};
    const auto plan = extend(source.topology(), std::vector<moue::index_t>{4, 5}, moue::shared_pool{1, 2});
    const auto target = moe_to_moue(source, plan);
    const auto old = test::random_weights<double>(*test::erase<double>(source), 3);
    auto weights = start(target, source, old, plan);
    const auto before = run<double>(source, old);
    const auto& visit = before.visits[0];
    double lowest = 0;  // of all tokens' second best logits
    for (std::size_t t = 0; t < 40; ++t)
      lowest = std::min(lowest, visit.logits[4 * t + static_cast<std::size_t>(visit.selected[2 * t + 1])]);
    const double bias = lowest - 0.25;
    weights["layers.0.router.opening"](0, 1) = bias;  // its row is 0
    const auto after = run<double>(target, weights);
    CHECK(after.visits[0].experts == visit.experts);
    if (which != convention::softmax_then_select) {
      CHECK(test::difference(before, after) == "");
      continue;
    }
    for (std::size_t t = 0; t < 40; ++t) {
      double sum = 0;
      for (std::size_t j = 0; j < 4; ++j) sum += std::exp(visit.logits[4 * t + j]);
      const double factor = sum / (sum + std::exp(bias));
      CHECK(factor < 0.999);
      for (std::size_t j = 0; j < 5; ++j)  // a handful of roundings
        CHECK(after.visits[0].y[5 * t + j] == doctest::Approx(factor * visit.y[5 * t + j]).epsilon(1e-12));
    }
  }
}

TEST_CASE("once open, foreign experts are used, and backward agrees with central differences") {
  const moue::mixture source{moue::swiglu{5, 4}, moue::layer_local{3, 4},
                             moue::router{moue::score_sum{moue::normalised_score{}, moue::trajectory{3}},
                                          moue::top_k{2}, moue::softmax_then_select{}},
                             moue::universal_balance{0.5}, moue::reference{}};
  const auto plan = test::ring_plan(source);
  const auto target = moe_to_moue(source, plan, moue::foreign_bias{plan.home, 0.25});
  const auto erased = test::erase<double>(target);
  auto weights =
      start(target, source, test::random_weights<double>(*test::erase<double>(source), 3), plan, home_row{3});
  set_openings(weights, 0.5);
  const auto result = run<double>(target, weights, 6);
  bool foreign_used = false;
  for (const auto e : result.visits[0].experts) foreign_used = foreign_used || e >= 4;
  CHECK(foreign_used);
  const auto worst = test::compare_with_differences(*erased, weights, test::random_input<double>(*erased, 6, 6));
  CHECK_MESSAGE(worst.error < 1e-6, worst.where);
}

TEST_CASE("tied visits, kinds of experts, features and queries are converted as they are") {
  const moue::mixture source{
      moue::expert_pool{[](moue::index_t e) { return e % 2; }, moue::swiglu{5, 4}, moue::mlp<moue::gelu, true>{5, 3}},
      moue::revisit{moue::layer_local{2, 3}, 2, true},
      moue::router{moue::query_score{3}, moue::top_k{2}, moue::softmax_of_selected{}}
          .with(moue::rms_features{})
          .with(moue::biased_sigmoid{}),
      moue::universal_balance{0.5}, moue::cpu{2}};
  const auto universal = all_experts{}(wiring::of(source.topology()));
  const auto plan = extend(source.topology(), universal, moue::shared_pool{4, 6});
  const auto target = moe_to_moue(source, plan);
  const auto old = test::random_weights<float>(*test::erase<float>(source), 3);
  const auto weights = start(target, source, old, plan, home_row{});
  for (const moue::index_t tokens : {1, 40})
    CHECK(test::difference(run<float>(source, old, tokens), run<float>(target, weights, tokens)) == "");
}

TEST_CASE("not even an overflow opens a closed connection") {
  const auto source = test::make_source({}, moue::linear_score{}, moue::cpu{});
  const auto plan = test::ring_plan(source);
  const auto target = moe_to_moue(source, plan);
  const auto old = test::random_weights<float>(*test::erase<float>(source), 3);
  auto weights = start(target, source, old, plan);
  for (moue::index_t layer = 0; layer < 3; ++layer)
    for (auto& w : weights["layers." + std::to_string(layer) + ".router.foreign"].row(0))
      w = std::numeric_limits<float>::max();
  CHECK(test::difference(run<float>(source, old), run<float>(target, weights)) == "");
}
