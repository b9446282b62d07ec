// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/analysis/load.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "moue/analysis/size.hpp"
#include "moue/analysis/text.hpp"
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

TEST_CASE("sizes of a mixture count what a token meets, layer by layer") {
  // Experts of 2 x 3 x 4 weights and no bias; layer l reaches experts l and l + 1 of three, expert 3 is always on.
  const moue::mixture model{moue::gated_mlp<moue::silu>{.width = 4, .hidden = 3},
                            moue::always_on{moue::table{3, {{0, 1}, {1, 2}}}, 0, 1}, moue::linear_router(1)};
  const auto size = moue::summarise_size(model);
  const moue::index_t expert = 3 * 3 * 4, router = 2 * 4;
  CHECK(size.physical == 4 * expert + 2 * router);
  CHECK(size.trained == size.physical);
  CHECK(size.unshared == 2 * 3 * expert + 2 * router);  // two candidates and the one that is always on, at each layer
  CHECK(size.active == static_cast<double>(2 * (2 * expert + router)));
  CHECK(size.flops == 2 * size.active);
  CHECK(moue::to_string(size) ==
        "160 parameters (160 trained, 232 if nothing were shared), 160 active and 320 operations per token");

  // Selections that take less, experts of two sizes, a buffer that is not trained, keys that are read in part.
  const moue::expert_pool pool{[](moue::index_t e) { return e % 2; }, moue::mlp<moue::silu>{.width = 4, .hidden = 2},
                               moue::mlp<moue::silu>{.width = 4, .hidden = 6}};
  const moue::mixture mixed{pool, moue::table{3, {{0, 1}, {1}}},
                            moue::router{moue::keyed_score{}, moue::top_k{1}, moue::softmax_of_selected{}}};
  const auto& layout = *mixed.layout();
  const auto elements = [&](moue::index_t e) {
    moue::index_t sum = 0;
    for (const auto& tensor : layout) sum += tensor.expert == e ? tensor.size() : 0;
    return sum;
  };
  moue::index_t routers = 0;
  for (const auto& tensor : layout) routers += tensor.expert < 0 ? tensor.size() : 0;
  const auto parts = moue::summarise_size(mixed);
  CHECK(parts.physical == layout.elements());
  CHECK(2 * parts.active == static_cast<double>(2 * routers + elements(0) + elements(1) + 2 * elements(1)));
  CHECK(parts.unshared == routers + elements(0) + 2 * elements(1));
}

TEST_CASE("what one wants to look at has a text") {
  const std::array<float, 4> numbers{0.5F, -1, 2, 1e-7F};
  CHECK(moue::to_string(moue::vector_view<const float>{numbers.data(), 4}) == "[4] 0.5 -1 2 1e-07");
  CHECK(moue::to_string(moue::matrix_view<const float>{numbers.data(), 2, 1, 2}) == "[2, 1]\n  0.5\n  2");
  CHECK(moue::to_string(moue::matrix_view<const float>{nullptr, 2, 1}) == "[2, 1] null");
  CHECK(moue::to_string(moue::matrix_view<const float>{numbers.data(), 1, 0}) == "[1, 0]");
  const std::array<moue::bf16, 9> narrow{moue::bf16(0.5F)};
  CHECK(moue::to_string(moue::vector_view<const moue::bf16>{narrow.data(), 9}) == "[9] 0.5 0 0 0 0 0 0 0 ...");
  const std::array<std::uint8_t, 2> bytes{1, 255};
  CHECK(moue::to_string(moue::vector_view<const std::uint8_t>{bytes.data(), 2}) == "[2] 1 255");

  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{1, 1}, moue::linear_router(1)};
  CHECK(moue::to_string(*model.layout()) ==
        "layers.0.router.weight [1, 4]\nexperts.0.gate [3, 4]\nexperts.0.up [3, 4]\nexperts.0.down [4, 3]\n"
        "4 tensors, 40 elements");

  CHECK(moue::to_string(moue::always_on{moue::table{3, {{0, 1}, {2, 1}}}, 0, 1}) == "2 layers, 4 experts\n##.+\n.##+");
  const std::array<moue::index_t, 3> offsets{0, 2, 3};
  const std::array<std::int32_t, 3> experts{3, -1, 0};
  const std::array<double, 3> gates{0.75, 0.25, 1};
  CHECK(moue::to_string(moue::routing<double>{{offsets.data(), 3}, {experts.data(), 3}, {gates.data(), 3}}) ==
        "2 tokens, 3 entries\n0: 3 (0.75) -\n1: 0 (1)");
  hand_made example;
  CHECK(moue::to_string(moue::summarise_load(example.statistics())) ==
        "largest / mean load 1.5, in proportion to reach 1.6; idle experts: 3\n"
        "layer 0: largest / mean 1.5, entropy 0.693147\nlayer 1: largest / mean 2.25, entropy 0.562335");
}

TEST_CASE("load is summed up over batches by counts") {
  const moue::mixture model{moue::copy_expert{4}, moue::table{5, {{0, 1, 2, 3}, {2, 3, 4}}}, moue::linear_router(2),
                            moue::no_balancing{}, moue::reference{}};
  const auto weights = model.initialize<double>(3);
  const moue::pass_options options{.tokens = 8};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> numbers(8 * 4);
  const auto text_of = [](const moue::load_report& report) { return moue::to_string(report); };
  const auto run = [&](moue::index_t tokens, double seed) {
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::sin(seed + 3 * static_cast<double>(i));
    pass.begin(tokens);
    const moue::matrix_view<double> x{numbers.data(), tokens, 4};
    for (moue::index_t layer = 0; layer < 2; ++layer) pass.forward(layer, x, x);
    return pass.counts();
  };

  const auto first = run(8, 1);
  CHECK(text_of(moue::summarise_load(first, model.connections())) == text_of(moue::summarise_load(pass.statistics())));
  const auto both = first + run(3, 2);
  const auto report = moue::summarise_load(both, model.connections());
  std::array<double, 5> share{};
  for (const auto& [first_column, end] : {std::pair{0, 4}, std::pair{4, 7}}) {
    const double taken = std::accumulate(both.demand.begin() + first_column, both.demand.begin() + end, 0.0);
    CHECK(taken == 2 * 11);  // of two per token, none was dropped
    for (int i = first_column; i < end; ++i)
      share[static_cast<std::size_t>(model.connections().all_candidates()[static_cast<std::size_t>(i)])] +=
          static_cast<double>(both.demand[static_cast<std::size_t>(i)]) / taken;
  }
  CHECK(report.raw == doctest::Approx(*std::max_element(share.begin(), share.end()) * 5 / 2).epsilon(exact));
  CHECK_THROWS_AS(moue::summarise_load(both, moue::connectivity(moue::shared_pool{2, 3})), moue::error);
}
