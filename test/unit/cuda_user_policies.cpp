// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies of a user, which know nothing of lanes, on the CUDA backend, run by a host.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>

#include "carried.hpp"
#include "emulated.hpp"
#include "moue/moue.hpp"
#include "moue/router/extended_score.hpp"
#include "moue/router/foreign_bias.hpp"
#include "moue/testing/laws.hpp"
#include "stack.hpp"
#include "user_policies.hpp"

namespace {

using namespace test::user;

/// `mixture(backend)` on the emulated device against plain loops; returns the fewest and the most that a token took.
std::array<moue::index, 2> check(const auto& mixture) {
  const auto there = test::erase<double>(mixture(test::emulated()));
  const auto here = test::erase<double>(mixture(moue::reference{}));
  auto weights = test::random_weights(*here, 3);
  for (const auto& info : *here->layout())
    if (info.name == "layers.1.router.opening") weights[info.name](0, 0) = -std::numeric_limits<double>::infinity();
  std::array<moue::index, 2> taken{here->experts(), 0};
  for (const moue::index tokens : {1, 21}) {
    auto input = test::random_input(*here, tokens, 5);
    for (moue::index t = 0; t < tokens; ++t) input.valid.push_back(t % 5 != 3);
    for (const auto how : {moue::mode::training, moue::mode::inference}) {
      const auto result = test::run_stack(*there, weights, input, how);
      const auto expected = test::run_stack(*here, weights, input, how);
      constexpr double tolerance = 1e-12;  // sums of some tens of terms in another order, through three layers
      CHECK(test::distance(result.output, expected.output) < tolerance);
      CHECK(result.balance == doctest::Approx(expected.balance).epsilon(tolerance));
      CHECK(result.loss == doctest::Approx(expected.loss).epsilon(tolerance));
      CHECK(test::distance(result.dx, expected.dx) < tolerance);
      CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
      for (std::size_t l = 0; l < expected.visits.size(); ++l) {
        CHECK(result.visits[l].slots == expected.visits[l].slots);
        const auto most = std::ssize(expected.visits[l].slots) / tokens;
        for (moue::index t = 0; t < tokens; ++t) {
          const auto first = expected.visits[l].slots.begin() + t * most;
          const moue::index count = most - std::count(first, first + most, -1);
          taken = {std::min(taken[0], input.valid[static_cast<std::size_t>(t)] ? count : taken[0]),
                   std::max(taken[1], count)};
        }
      }
    }
  }
  return taken;
}

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

const moue::staggered_rotation ring{.depth = 3, .pool = 7, .window = 4, .stride = 2};

}  // namespace

TEST_CASE("policies of a user obey the laws") {
  obeys(moue::testing::check_expert_laws(scaled_expert{5}));
  obeys(moue::testing::check_expert_laws(shifted_expert{5}));
  obeys(moue::testing::check_score_laws(square_score{}));
  obeys(moue::testing::check_select_laws(all_above{0.7}));
  obeys(moue::testing::check_gate_laws(squared_sigmoid{}));
  obeys(moue::testing::check_probability_laws(flat_softmax{}));
  obeys(moue::testing::check_balance_laws(bounded_loss{0.3}));
  obeys(moue::testing::check_balance_laws(share_loss{0.3}));
}

TEST_CASE("experts, row stages and losses of a user") {
  const auto compare = [](const moue::staggered_rotation& topology) {
    return check([&](const auto& backend) {
      return moue::mixture{moue::expert_pool{[](moue::index e) { return e % 3; }, scaled_expert{6}, shifted_expert{6},
                                             moue::swiglu{6, 5}},
                           topology,
                           moue::router{square_score{}, all_above{0.7}, squared_sigmoid{}}.with(flat_softmax{}),
                           moue::sum_of_losses{bounded_loss{0.3}, share_loss{0.4}}, backend};
    });
  };
  const auto taken = compare(ring);
  CHECK(taken[0] == 0);
  CHECK(taken[1] > 2);
  compare({.depth = 1, .pool = 260, .window = 260});  // rows so long that a block has one
}

TEST_CASE("a selection of a user that sees the whole table") {
  const auto taken = check([](const auto& backend) {
    return moue::mixture{scaled_expert{6}, moue::always_on{ring, 1},
                         moue::router{moue::keyed_score{}, in_turn{}, squared_sigmoid{}}.with(moue::biased_logits{}),
                         moue::switch_loss{0.3}, backend};
  });
  CHECK(taken[0] == 1);
  CHECK(taken[1] == 1);
}

TEST_CASE("scores with candidates that a layer gained, one of them closed") {
  check([](const auto& backend) {
    const moue::extended_score home{moue::score_sum{moue::linear_score{}, moue::trajectory{3, 0.5}}, 2};
    return moue::mixture{
        moue::swiglu{6, 5}, ring,
        moue::router{moue::score_sum{home, moue::foreign_bias{2}}, moue::top_k{2}, moue::softmax_of_selected{}},
        moue::switch_loss{0.3}, backend};
  });
}
