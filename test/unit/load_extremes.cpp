// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Loads from even to absurd, with ids and gates given: both backends against a loop over tokens.

#include <doctest/doctest.h>

#include "loads.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"

TEST_CASE("all loads agree with a loop over tokens") {
  const moue::mlp<moue::silu> expert{20, 12};
  const moue::executor plain(expert, test::loads::experts, moue::reference{});
  const moue::executor fast(expert, test::loads::experts, moue::cpu{2});
  moue::parameters<double> weights(test::layout_of(plain));
  moue::initialize(weights, 1);
  for (const auto& kind : test::loads::all)
    for (const moue::index_t tokens : {1, 3, 64, 700}) {  // from a row or none to several blocks of 256 for one expert
      CAPTURE(kind.name);
      CAPTURE(tokens);
      const auto given = test::loads::assign(kind, tokens);
      const auto x = test::noise_vector(2, tokens * 20), dy = test::noise_vector(3, tokens * 20);
      const auto expected = test::run_naively(weights, 20, given, x, dy);
      const auto check = [&](const test::executor_result& result) {
        CHECK(test::distance(result.y, expected.y) < 1e-13);  // sums of at most 40 terms in another order
        CHECK(test::distance(result.dx, expected.dx) < 1e-13);
        CHECK(test::distance(result.dgate, expected.dgate) < 1e-13);
        CHECK(test::distance(result.gradients, expected.gradients) < 1e-12);  // of up to 700 terms
        for (moue::index_t e = 0; e < test::loads::experts; ++e)
          CHECK(result.gradients.touched(e) == expected.gradients.touched(e));
      };
      check(test::run_executor(plain, weights, given, x, dy));
      check(test::run_executor(fast, weights, given, x, dy));
    }
}
