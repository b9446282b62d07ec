// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mixtures of a user's policies on any backend, compared with the same by plain loops.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

#include "any_model.hpp"
#include "moue/backend/reference.hpp"
#include "moue/router/extended_score.hpp"
#include "moue/router/foreign_bias.hpp"
#include "stack.hpp"
#include "stack_agreement.hpp"
#include "user_policies.hpp"

namespace test::user {

/// What `mixture` knows; rows of "long_rows" are so long that a block of a device has one.
inline constexpr std::string_view mixtures[]{"rows", "long_rows", "table", "extended"};

template <class BackendT>
model_pointer<double> mixture(std::string_view name, const BackendT& backend) {
  const moue::staggered_rotation ring{.depth = 3, .pool = 7, .window = 4, .stride = 2};
  if (name == "rows" || name == "long_rows") {
    const auto topology = name == "rows" ? ring : moue::staggered_rotation{.depth = 1, .pool = 260, .window = 260};
    return test::erase<double>(
        moue::mixture{moue::expert_pool{[](moue::index_t e) { return e % 3; }, scaled_expert{6}, shifted_expert{6},
                                        moue::swiglu{6, 5}},
                      topology, moue::router{square_score{}, all_above{0.7}, squared_sigmoid{}}.with(flat_softmax{}),
                      moue::sum_of_losses{bounded_loss{0.3}, share_loss{0.4}}, backend});
  }
  if (name == "table")
    return test::erase<double>(
        moue::mixture{scaled_expert{6}, moue::always_on{ring, 1},
                      moue::router{moue::keyed_score{}, in_turn{}, squared_sigmoid{}}.with(moue::biased_logits{}),
                      moue::switch_loss{0.3}, backend});
  if (name == "extended") {  // candidates that a layer gained, one of them closed by `check`
    const moue::extended_score home{moue::score_sum{moue::linear_score{}, moue::trajectory{3, 0.5}}, 2};
    return test::erase<double>(moue::mixture{
        moue::swiglu{6, 5}, ring,
        moue::router{moue::score_sum{home, moue::foreign_bias{2}}, moue::top_k{2}, moue::softmax_of_selected{}},
        moue::switch_loss{0.3}, backend});
  }
  throw std::invalid_argument("no mixture is called " + std::string(name));
}

/// `there`, made by `mixture` on some backend, against plain loops; returns the fewest and the most that a token took.
inline std::array<moue::index_t, 2> check(std::string_view name, const model_pointer<double>& there) {
  const auto here = mixture(name, moue::reference{});
  auto weights = random_weights(*here, 3);
  for (const auto& info : *here->layout())
    if (info.name == "layers.1.router.opening") {  // whatever stands in the row of what is closed
      weights[info.name](0, 0) = -std::numeric_limits<double>::infinity();
      weights["layers.1.router.foreign"](0, 1) = std::numeric_limits<double>::infinity();
      weights["layers.1.router.foreign_bias"](0, 0) = std::numeric_limits<double>::quiet_NaN();
    }
  std::array<moue::index_t, 2> taken{here->experts(), 0};
  for (const moue::index_t tokens : {1, 21}) {
    auto input = random_input(*here, tokens, 5);
    for (moue::index_t t = 0; t < tokens; ++t) input.valid.push_back(t % 5 != 3);
    for (const auto how : {moue::mode::training, moue::mode::inference}) {
      const auto result = run_stack(*there, weights, input, how);
      const auto expected = run_stack(*here, weights, input, how);
      constexpr double tolerance = 1e-12;  // sums of some tens of terms in another order, through three layers
      check_agreement(result, expected, tolerance);
      for (std::size_t l = 0; l < expected.visits.size(); ++l) {
        const auto most = std::ssize(expected.visits[l].selected) / tokens;
        for (moue::index_t t = 0; t < tokens; ++t) {
          const auto first = expected.visits[l].selected.begin() + t * most;
          const moue::index_t count = most - std::count(first, first + most, -1);
          taken = {std::min(taken[0], input.valid[static_cast<std::size_t>(t)] ? count : taken[0]),
                   std::max(taken[1], count)};
        }
      }
    }
  }
  return taken;
}

}  // namespace test::user
