// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "published/expert_choice.hpp"
#include "published_systems.hpp"

// Published systems against numbers that were computed independently.

TEST_CASE("GShard: a second choice is dropped after the gates") {
  test::reproduce_gshard(moue::reference{}, moue::cpu{2});
}
TEST_CASE("V-MoE: noise, importance and load") { test::reproduce_noise(moue::reference{}, moue::cpu{2}); }
TEST_CASE("DeepSeek-V3: balance inside each sequence") { test::reproduce_sequences(moue::reference{}, moue::cpu{2}); }
TEST_CASE("experts that differ") { test::reproduce_specialisation(moue::reference{}, moue::cpu{2}); }

TEST_CASE("expert choice with a capacity") {
  for (const char* name : {"expert_choice_cf1", "expert_choice_cf2_pad_closed"}) {
    CAPTURE(name);
    const test::published_layer layer(name);
    test::reproduce(layer,
                    moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}},
                                 published::expert_choice{.factor = layer.config("cf")}, moue::softmax_then_select{}}
                        .with(moue::biased_softmax{}),
                    moue::no_balancing{}, {}, moue::reference{}, moue::cpu{2});
  }
}

TEST_CASE("the controller of DeepSeek's bias") {
  const test::published_layer layer("dsv3_g4_k3");
  auto bias = layer.side("bias");
  const auto count = layer.all().at("layers")[0].at("count").at("data").get<std::vector<std::int64_t>>();
  const moue::matrix_view<double> row{bias.data(), 1, layer.candidates()};
  published::update_bias(row, count, layer.config("bias_rate"));
  CHECK(test::distance(bias, test::numbers(layer.all().at("next_state").at("bias")), 1) < 1e-15);
}
