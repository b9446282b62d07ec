// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What a mixture that gained connections starts from.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "conversion.hpp"

namespace {

using namespace moue::convert;

/// A small source with the loss left out, so that only routing speaks.
template <class ScoreT, class GateT = moue::softmax_of_selected>
auto plain_source(ScoreT score, moue::index_t layers, GateT gate = {}) {
  return moue::mixture{moue::swiglu{5, 4}, moue::layer_local{layers, 4},
                       moue::router{std::move(score), moue::top_k{2}, gate}, moue::no_balancing{}, moue::cpu{}};
}

/// Every layer gains every expert of the others.
template <class MixtureT>
plan full_plan(const MixtureT& source) {
  const auto universal = all_experts{}(wiring::of(source.topology()));
  return extend(source.topology(), universal,
                moue::shared_pool{source.layers(), static_cast<moue::index_t>(universal.size())});
}

/// Numbers for every tensor, buffers too.
template <class MixtureT>
moue::parameters<double> numbers_for(const MixtureT& model) {
  moue::parameters<double> weights(model.layout());
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
      weights[i].data[j] = test::noise(static_cast<std::uint64_t>(i), j);
  return weights;
}

}  // namespace

TEST_CASE("a conversion has the source's tensors and, per layer, foreign rows and openings") {
  const auto source = plain_source(moue::linear_score{}, 3);
  const auto target = moe_to_moue(source, full_plan(source));
  CHECK(target.experts() == source.experts());
  CHECK(target.layout()->elements() == source.layout()->elements() + 3 * 8 * (5 + 1));
  CHECK(target.layout()->tensors() == source.layout()->tensors() + 3 * 2);
  const auto old = source.initialize<float>(1);
  const auto weights = start(target, source, old, full_plan(source), fresh_rows{}, 42);
  CHECK(test::first_difference(old, weights) == "");
  for (const float b : weights["layers.2.router.opening"].row(0)) CHECK(b == -std::numeric_limits<float>::infinity());
  // Fresh rows can be drawn for one layer alone.
  std::vector<float> drawn(8 * 5);
  draw_rows(1, 42, moue::matrix_view<float>{drawn.data(), 8, 5});
  CHECK(test::same_bits(drawn, test::to_vector(weights["layers.1.router.foreign"])));
}

TEST_CASE("the rows by which a layer scores its candidates are found for every linear score") {
  const auto check = [](auto score, const auto& expected) {
    const auto source = plain_source(score, 2);
    const auto weights = numbers_for(source);
    const auto rows = score_rows(source, weights, 1);
    for (moue::index_t i = 0; i < 4; ++i)
      for (moue::index_t j = 0; j < 5; ++j)
        CHECK(rows[static_cast<std::size_t>(i * 5 + j)] == doctest::Approx(expected(weights, i, j)).epsilon(1e-12));
  };
  const auto weight = [](const auto& weights, moue::index_t i, moue::index_t j) {
    return weights["layers.1.router.weight"](i, j);
  };
  check(moue::linear_score{}, weight);
  check(moue::score_sum{moue::linear_score{}, moue::trajectory{3}, moue::logit_bias{}}, weight);
  const auto normalised = [](const auto& weights, moue::index_t i, moue::index_t j, double key) {
    double norm = 0;
    const auto row = [&](moue::index_t column) {
      return weights["layers.1.router.weight"](i, column) + (key > 0 ? weights["router.shared_key"](4 + i, column) : 0);
    };
    for (moue::index_t column = 0; column < 5; ++column) norm += row(column) * row(column);
    return weights["layers.1.router.temperature"](0, 0) * row(j) / std::sqrt(norm);
  };
  check(moue::normalised_score{},
        [&](const auto& w, moue::index_t i, moue::index_t j) { return normalised(w, i, j, 0); });
  check(moue::keyed_score{}, [&](const auto& w, moue::index_t i, moue::index_t j) { return normalised(w, i, j, 1); });
  // A closed candidate has no row.
  const auto source = plain_source(moue::score_sum{moue::linear_score{}, moue::logit_bias{}}, 1);
  auto weights = source.initialize<double>(1);
  weights["layers.0.router.bias"](0, 2) = closed;
  CHECK(score_rows(source, weights, 0)[2 * 5 + 1] == 0);
}

TEST_CASE("foreign rows are filled as the policy says") {
  const auto source = plain_source(moue::linear_score{}, 3);
  const auto plan = full_plan(source);
  const auto target = moe_to_moue(source, plan);
  const auto old = numbers_for(source);
  const auto foreign = [&](auto policy) {
    const auto weights = start(target, source, old, plan, policy);
    return test::to_vector(weights["layers.1.router.foreign"]);
  };
  CHECK(foreign(zero_rows{}) == std::vector<double>(8 * 5, 0));
  const auto home = foreign(home_row{0.5}), mean = foreign(mean_row{2});
  for (moue::index_t i = 0; i < 8; ++i)
    for (moue::index_t j = 0; j < 5; ++j) {
      const moue::index_t e = plan.foreign(1)[static_cast<std::size_t>(i)];
      const auto at = static_cast<std::size_t>(i * 5 + j);
      CHECK(home[at] == 0.5 * old["layers." + std::to_string(e / 4) + ".router.weight"](e % 4, j));
      double sum = 0;
      for (moue::index_t own = 0; own < 4; ++own) sum += old["layers.1.router.weight"](own, j);
      CHECK(mean[at] == doctest::Approx(2 * sum / 4).epsilon(1e-14));
    }
}

TEST_CASE("a plan for another topology is refused") {
  const auto source = plain_source(moue::linear_score{}, 3);
  auto plan = full_plan(source);
  std::swap(plan.topology.rows[0][0], plan.topology.rows[0][1]);
  CHECK_THROWS_AS(moe_to_moue(source, plan), moue::error);
  plan.home = 99;
  CHECK_THROWS_AS(moe_to_moue(source, plan), moue::error);
}
