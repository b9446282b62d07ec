// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/analysis/load.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "moue/moue.hpp"

namespace {

// Two layers: {0, 1, 2} and {1, 2, 3}; expert 4 is always on. Shares are set by hand.
struct hand_made {
  std::array<moue::index_t, 3> offsets{0, 3, 6};
  std::array<std::int32_t, 6> candidates{0, 1, 2, 1, 2, 3};
  std::array<double, 5> exposure{1, 2, 2, 1, 0};
  std::array<double, 6> share{0.5, 0.5, 0, 0.25, 0.75, 0};
  std::array<double, 5> expert_share{0.5, 0.75, 0.75, 0, 0};
  std::array<std::uint8_t, 6> open{1, 1, 1, 1, 1, 1};

  moue::depth_statistics<double> statistics() {
    return {2,
            5,
            4,
            {offsets.data(), 3},
            {candidates.data(), 6},
            {exposure.data(), 5},
            {share.data(), 6},
            {},
            {expert_share.data(), 5},
            {},
            {open.data(), 6}};
  }
};

constexpr double exact = 1e-14;  // a handful of roundings of numbers near 1

}  // namespace

TEST_CASE("a load report follows its formulas") {
  hand_made example;
  const auto report = moue::summarise_load(example.statistics());
  CHECK(report.raw == doctest::Approx(0.75 / 0.5).epsilon(exact));          // mean of .5 .75 .75 0 is .5
  CHECK(report.corrected == doctest::Approx(0.5 / 0.3125).epsilon(exact));  // mean of .5 .375 .375 0 is .3125
  CHECK(report.dead == std::vector<moue::index_t>{3});                      // not the always-on expert 4
  CHECK(report.layer_max_mean[0] == doctest::Approx(1.5).epsilon(exact));
  CHECK(report.layer_max_mean[1] == doctest::Approx(2.25).epsilon(exact));
  CHECK(report.layer_entropy[0] == doctest::Approx(std::log(2.0)).epsilon(exact));
  CHECK(report.layer_entropy[1] == doctest::Approx(-0.25 * std::log(0.25) - 0.75 * std::log(0.75)).epsilon(exact));
}

TEST_CASE("a load report of nothing is zero") {
  hand_made example;
  example.share.fill(0);
  example.expert_share.fill(0);
  const auto report = moue::summarise_load(example.statistics());
  CHECK(report.raw == 0);
  CHECK(report.corrected == 0);
  CHECK(report.dead.size() == 4);
  CHECK(report.layer_entropy == std::vector<double>{0, 0});
}

namespace {

using depth = moue::mixture<moue::copy_expert, moue::always_on<moue::table>,
                            decltype(moue::router{moue::logit_bias{}, moue::top_k<2>{}, moue::softmax_of_selected{}}),
                            moue::no_balancing, moue::cpu>;

constexpr double closed = -std::numeric_limits<double>::infinity();

// The bias decides alone; by default layer 0 takes {0, 1}, layer 1 takes {1, 2}, layer 2 takes {3}.
depth biased_depth() {
  return {moue::copy_expert{3}, moue::always_on{moue::table{4, {{0, 1, 2}, {1, 2, 3}, {3}}}, 1},
          moue::router{moue::logit_bias{}, moue::top_k<2>{}, moue::softmax_of_selected{}}};
}

moue::layer_matrix reuse_of(moue::mode how, const std::array<double, 3>& first = {0, 0, -1},
                            const std::array<double, 3>& second = {0, 0, -1}) {
  const auto model = biased_depth();
  auto weights = model.initialize<double>(1);
  std::copy(first.begin(), first.end(), weights["layers.0.router.bias"].data);
  std::copy(second.begin(), second.end(), weights["layers.1.router.bias"].data);
  const moue::pass_options options{.tokens = 3, .how = how};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(9, 1.0), y(9);
  const std::array<std::uint8_t, 3> valid{1, 0, 1};
  pass.begin(3, {.valid = {valid.data(), 3}, .token_ids = {}, .labels = {}});
  for (moue::index_t layer = 0; layer < 3; ++layer) pass.forward(layer, {x.data(), 3, 3}, {y.data(), 3, 3});
  return moue::reuse_matrix(pass);
}

}  // namespace

TEST_CASE("a reuse matrix counts the routed experts that layers have in common") {
  const auto reuse = reuse_of(moue::mode::training);
  REQUIRE(reuse.layers == 3);
  for (moue::index_t layer = 0; layer < 3; ++layer) CHECK(reuse(layer, layer) == 1);
  CHECK(reuse(0, 1) == 0.5);
  CHECK(reuse(1, 0) == 0.5);
  CHECK(reuse(0, 2) == 0);
  CHECK(reuse(2, 1) == 0);
}

TEST_CASE("empty entries are nothing to have in common") {
  const auto reuse = reuse_of(moue::mode::training, {0, closed, closed}, {closed, closed, 0});
  CHECK(reuse(0, 1) == 0);  // {0} and {3}, each beside an empty entry
  CHECK(reuse(1, 2) == 1);
}

TEST_CASE("a reuse matrix follows what ran, however many entries a token has") {
  const auto model = biased_depth();
  auto weights = model.initialize<double>(1);
  weights["layers.0.router.bias"](0, 2) = weights["layers.1.router.bias"](0, 2) = -1;
  const moue::pass_options options{.tokens = 2};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(6, 1.0), y(6);
  pass.begin(2);
  pass.forward(0, {x.data(), 2, 3}, {y.data(), 2, 3});  // {0, 1} for both tokens
  pass.route(1, {x.data(), 2, 3});
  const std::array<moue::index_t, 3> offsets{0, 1, 3};
  const std::array<std::int32_t, 3> experts{1, 2, 0}, columns{0, 1, -1};  // the last entry is the caller's
  const std::array<double, 3> gates{1, 1, 1};
  pass.run(1, {x.data(), 2, 3}, {{offsets.data(), 3}, {experts.data(), 3}, {gates.data(), 3}, {columns.data(), 3}},
           {y.data(), 2, 3});
  pass.forward(2, {x.data(), 2, 3}, {y.data(), 2, 3});
  const auto reuse = moue::reuse_matrix(pass);
  CHECK(reuse(1, 1) == 1);
  CHECK(reuse(1, 0) == 0.5);   // 1 is in {0, 1}, 2 is not
  CHECK(reuse(0, 1) == 0.25);  // half of {0, 1} for the first token, nothing for the second
}

TEST_CASE("a reuse matrix of an inference pass is refused") {
  CHECK_THROWS_WITH_AS(reuse_of(moue::mode::inference), doctest::Contains("mode::training"), moue::error);
}

TEST_CASE("a reuse matrix is over the layers that ran, of one pass or of several ranges") {
  const auto model = biased_depth();
  const auto weights = model.initialize<double>(1);
  const auto whole = reuse_of(moue::mode::training);
  std::vector<double> x(9, 1.0), y(9);
  const auto bytes = model.workspace_bytes<double>({.tokens = 3});
  moue::workspace memory[]{moue::workspace(bytes), moue::workspace(bytes)};
  auto front = model.start(weights, {.tokens = 3, .count = 2}, memory[0]);
  auto back = model.start(weights, {.tokens = 3, .first = 2}, memory[1]);
  front.begin(3);
  back.begin(3);
  CHECK(moue::reuse_matrix(back).layers == 0);
  for (moue::index_t layer = 0; layer < 2; ++layer) front.forward(layer, {x.data(), 3, 3}, {y.data(), 3, 3});
  back.forward(2, {x.data(), 3, 3}, {y.data(), 3, 3});
  const auto both = moue::reuse_matrix(front, back), one = moue::reuse_matrix(front);
  CHECK(both.values == whole.values);
  REQUIRE(one.layers == 2);
  CHECK(one(0, 1) == whole(0, 1));
  CHECK(moue::reuse_matrix(back).values == std::vector<double>{1});
  back.begin(2);
  CHECK_THROWS_WITH_AS(moue::reuse_matrix(front, back), doctest::Contains("ranges of 3 and 2 tokens were given"),
                       moue::error);
}

TEST_CASE("a load report reads a pass") {
  const auto model = moue::mixture{moue::copy_expert{4}, moue::shared_pool{2, 6}, moue::linear_router(2)};
  const auto weights = model.initialize<double>(3);
  const moue::pass_options options{.tokens = 16};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(64), y(64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  pass.begin(16);
  for (moue::index_t layer = 0; layer < 2; ++layer) pass.forward(layer, {x.data(), 16, 4}, {y.data(), 16, 4});
  const auto report = moue::summarise_load(pass.statistics());
  CHECK(report.raw >= 1);
  CHECK(report.raw == doctest::Approx(report.corrected).epsilon(exact));  // one pool: all exposures are equal
  CHECK(report.layer_entropy[0] <= std::log(6.0) + exact);
}
