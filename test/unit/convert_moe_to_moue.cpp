// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A mixture of experts that gains connections computes what it did, to the bit, until they open.

#include <doctest/doctest.h>

#include <vector>

#include "moue/convert.hpp"
#include "moue/moue.hpp"
#include "moue/train/adamw.hpp"
#include "stack.hpp"

TEST_CASE("closed connections change nothing, open ones do") {
  const moue::mixture source{moue::swiglu{.width = 8, .hidden = 6}, moue::layer_local{3, 4}, moue::linear_router(2),
                             moue::no_balancing{}, moue::cpu{}};
  const auto universal = moue::convert::all_experts{}(moue::convert::wiring::of(source.topology()));
  const auto plan = moue::convert::extend(source.topology(), universal,
                                          moue::staggered_rotation{.depth = 3, .pool = 12, .window = 6, .stride = 2});
  const auto converted = moue::convert::moe_to_moue(source, plan);
  const auto old = source.initialize<float>(1);
  auto weights = moue::convert::start(converted, source, old, plan, moue::convert::home_row{0.5});
  CHECK(plan.connections() > 0);
  const auto a = test::erase<float>(source);
  const auto b = test::erase<float>(converted);
  const auto input = test::random_input<float>(*a, 64, 3);
  const auto ra = test::run_stack<float>(*a, old, input);
  auto rb = test::run_stack<float>(*b, weights, input);
  CHECK(test::same_bits(ra.output, rb.output));
  CHECK(test::same_bits(ra.dx, rb.dx));
  for (moue::index step : {0, 10, 20})
    moue::convert::apply(moue::convert::annealed_opening{0, 20, -8, 0}, step, weights);
  rb = test::run_stack<float>(*b, weights, input);
  CHECK(!test::same_bits(ra.output, rb.output));
}
