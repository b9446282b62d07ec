// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/testing/laws.hpp"
#include "published_soft.hpp"
#include "published_systems.hpp"

// Published systems against numbers that were computed independently.

TEST_CASE("GShard: a second choice is dropped after the gates") {
  test::reproduce_gshard(moue::reference{}, moue::cpu{2});
}
TEST_CASE("V-MoE: noise, importance and load") { test::reproduce_noise(moue::reference{}, moue::cpu{2}); }
TEST_CASE("noisy top-k: learned noise, importance and load") {
  test::reproduce_learned_noise(moue::reference{}, moue::cpu{2});
}
TEST_CASE("noisy top-k has the same bits on two backends and any number of threads") {
  const auto plain = test::noisy_routing(moue::reference{});
  CHECK(plain == test::noisy_routing(moue::cpu{1}));
  CHECK(plain == test::noisy_routing(moue::cpu{3}));
}
TEST_CASE("NormRouter: logits on a sphere") { test::reproduce_sphere(moue::reference{}, moue::cpu{2}); }
TEST_CASE("DeepSeek-V3: balance inside each sequence") { test::reproduce_sequences(moue::reference{}, moue::cpu{2}); }
TEST_CASE("experts that differ") { test::reproduce_specialisation(moue::reference{}, moue::cpu{2}); }

TEST_CASE("MoE++: cheap experts and logits that go on") { test::reproduce_moepp(moue::reference{}, moue::cpu{2}); }
TEST_CASE("USMoE: each sequence takes its best pairs") {
  test::reproduce_pairs<test::silu_mlp>("usmoe_two_seqs", moue::reference{}, moue::cpu{2});
  test::reproduce_pairs<moue::swiglu>("usmoe_norm_pad", moue::reference{}, moue::cpu{2});
}
TEST_CASE("dynamic routing: as many experts as a token needs") {
  test::reproduce_top_p<test::silu_mlp>("topp_p40", moue::reference{}, moue::cpu{2});
  test::reproduce_top_p<moue::swiglu>("topp_p70_pad_closed", moue::reference{}, moue::cpu{2});
}

TEST_CASE("Soft MoE: a program over the executor") { test::reproduce_soft(moue::reference{}, moue::cpu{2}); }

TEST_CASE("laws of stages and losses") {
  const auto hold = [](const moue::testing::law_report& report) { CHECK_MESSAGE(report, report.summary()); };
  hold(moue::testing::check_score_laws(published::pathway_score{.deviation = 1}));
  hold(moue::testing::check_balance_laws(published::heterogeneous_balance{.layer = {.ffn = 1, .constant = 1}}));
  for (const moue::index_t k : {1, 3, 9}) hold(moue::testing::check_select_laws(published::best_of_sequence{.k = k}));
  hold(moue::testing::check_preference_laws(published::unified_score{.mix = 0.3}));
  for (const bool normalised : {false, true})
    hold(moue::testing::check_gate_laws(published::unified_gate{.mix = 0.3, .normalised = normalised}));
  for (const double p : {0.0, 0.4, 1.0}) hold(moue::testing::check_select_laws(published::top_p{.p = p}));
  hold(moue::testing::check_balance_laws(published::entropy_loss{.weight = 1}));
  hold(moue::testing::check_score_laws(published::noisy_score<>{}));
  hold(moue::testing::check_balance_laws(published::variation_of<published::gate_of_candidate>{}));
  hold(moue::testing::check_transform_laws(published::on_sphere{}));
  hold(moue::testing::check_gate_laws(published::as_they_are{}));
}

/// Closes the first candidate of every layer.
struct without_first {
  template <class C>
  void forward(const auto&, const moue::router_frame<C>&, const auto&, const auto&) const {}
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
  template <class C>
  void close(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_row(frame.logits.rows, [=](moue::index_t t) { frame.logits(t, 0) = -std::numeric_limits<C>::infinity(); });
  }
};
TEST_CASE("logits that go on, beside a candidate that is closed") {
  const auto report = moue::testing::check_gradients(moue::mixture{
      moue::copy_expert{.width = 4}, moue::layer_local{.depth = 3, .per_layer = 4},
      moue::router{moue::score_sum{moue::linear_score{.deviation = 1}, published::pathway_score{.deviation = 1},
                                   without_first{}},
                   moue::top_k{2}, moue::softmax_then_select{}},
      published::heterogeneous_balance{.layer = {.ffn = 1, .constant = 1}, .weight = 1}, moue::reference{}});
  CHECK_MESSAGE(report, report.summary());
}

TEST_CASE("how many USMoE and dynamic routing take") {
  const std::vector<double> even(5, 0), logits{3, 1, 2, 0, 0};
  const std::vector<std::int32_t> ids{0, 1, 2, 3, 4};
  const auto count = [&](double p, const std::vector<double>& z) {
    std::vector<std::int32_t> selected(5);
    return published::top_p{.p = p}(moue::vector_view<const double>{z.data(), 5},
                                    moue::vector_view<const std::int32_t>{ids.data(), 5},
                                    moue::vector_view<std::int32_t>{selected.data(), 5});
  };
  CHECK(count(0.5, even) == 3);  // 2/5 is not enough
  CHECK(count(0, even) == 1);
  CHECK(count(1, logits) == 5);
  CHECK(count(0.5, logits) == 1);
  CHECK(published::top_p{}.most_entries(10, 5) == 50);
  CHECK(published::top_p{.average = 2}.most_entries(10, 5) == 20);
  CHECK(published::best_of_sequence{.k = 2}.most_entries(10, 5) == 20);
  CHECK(published::best_of_sequence{.k = 9}.most_entries(10, 5) == 50);
}

TEST_CASE("the pairs that USMoE takes") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::int32_t> ids{0, 1, 2};
  using rows = std::vector<std::vector<std::int32_t>>;
  const auto take = [&](moue::index_t k, const std::vector<double>& scores, const std::vector<std::uint8_t>& valid) {
    const moue::index_t tokens = std::ssize(valid);
    std::vector<double> scratch(scores.size());
    std::vector<std::int32_t> selected(scores.size());
    moue::select_frame<double> frame{{}, {}, {ids.data(), 3}, {scores.data(), tokens, 3}};
    frame.batch.valid = {valid.data(), tokens};
    published::best_of_sequence{.k = k}.table(moue::reference_operations{}, frame, {selected.data(), tokens, 3},
                                              std::array{moue::matrix_view<double>{scratch.data(), 1, tokens * 3}});
    rows result;
    for (moue::index_t t = 0; t < tokens; ++t)
      result.emplace_back(selected.begin() + 3 * t, selected.begin() + 3 * t + 3);
    return result;
  };
  CHECK(take(2, {1, 3, 2}, {1}) == rows{{1, 2, -1}});  // alone: its k best
  CHECK(take(1, {1, 2, 3, 0, 0, 0}, {1, 1}) == rows{{2, 1, -1}, {-1, -1, -1}});
  CHECK(take(1, {9, 9, 9, 0, 1, 0}, {0, 1}) == rows{{-1, -1, -1}, {1, -1, -1}});
  CHECK(take(2, {0, 0, 0, 0, 0, 0}, {1, 1}) == rows{{0, 1, 2}, {0, -1, -1}});
  CHECK(take(3, {-inf, 0, 0, 1, -inf, -inf}, {1, 1}) == rows{{1, 2, -1}, {0, -1, -1}});
  CHECK(take(1, {5, 4, 1, 0, 0, nan}, {1, 1}) == rows{{0, -1, -1}, {2, -1, -1}});  // what is broken is seen
  CHECK(take(0, {1, 2, 3}, {1}) == rows{{-1, -1, -1}});

  const std::vector<double> logits{0, -inf, 0};
  std::vector<double> unified(3);
  published::unified_score{.mix = 0.3}(moue::vector_view<const double>{logits.data(), 3}, std::array<int, 0>{},
                                       moue::vector_view<double>{unified.data(), 3});
  CHECK(unified == std::vector{0.5, -inf, 0.5});  // 1 / E whatever the mix, and what is closed stays so

  // Ten numbers in all orders of one step: the place in the order is what a sort says.
  for (int step = 1; step < 11; ++step)
    for (moue::index_t place = 0; place < 10; ++place) {
      std::vector<double> all;
      for (int i = 0; i < 10; ++i) all.push_back(i * step % 11 / 2);  // some are equal
      auto sorted = all;
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      CHECK(published::largest_but(place, moue::vector_view<double>{all.data(), 10}) ==
            sorted[static_cast<std::size_t>(place)]);
    }
}

TEST_CASE("experts that tokens take unevenly need no more memory than as many taken evenly") {
  const auto gigabytes = [](moue::index_t experts, const auto& select) {
    const moue::mixture model{moue::swiglu{.width = 1024, .hidden = 512},
                              moue::shared_pool{.depth = 1, .pool = experts},
                              moue::router{moue::linear_score{}, select, moue::softmax_then_select{}}};
    return static_cast<double>(model.template workspace_bytes<float>({.tokens = 4096})) / (1 << 30);
  };
  for (const moue::index_t experts : {64, 256}) {
    const double even = gigabytes(experts, moue::top_k{8}),
                 choice = gigabytes(experts, published::expert_choice{.factor = 2}),
                 dynamic = gigabytes(experts, published::top_p{.p = 0.4, .average = 8});
    CAPTURE(experts);
    MESSAGE(experts, " experts: top-8 ", even, " GiB, expert choice of 2 each ", choice, ", top-p of 8 on the average ",
            dynamic, ", top-p without a bound ", gigabytes(experts, published::top_p{.p = 0.4}));
    CHECK(choice < 0.8);
    CHECK(dynamic < 1.05 * even + 0.05);
  }
}

TEST_CASE("expert choice with a capacity") {
  test::reproduce_expert_choice<test::silu_mlp>("expert_choice_cf1", moue::reference{}, moue::cpu{2});
  test::reproduce_expert_choice<moue::swiglu>("expert_choice_cf2_pad_closed", moue::reference{}, moue::cpu{2});
}

TEST_CASE("the controller of DeepSeek's bias") {
  const test::published_layer layer("dsv3_g4_k3");
  auto bias = layer.side("bias");
  const auto count = layer.all().at("layers")[0].at("count").at("data").get<std::vector<std::int64_t>>();
  const moue::matrix_view<double> row{bias.data(), 1, layer.candidates()};
  published::update_bias(row, count, layer.config("bias_rate"));
  CHECK(test::distance(bias, test::numbers(layer.all().at("next_state").at("bias")), 1) < 1e-15);
}
