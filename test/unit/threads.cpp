// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The thread pool of the CPU backend: it changes no bit, carries exceptions, and can be shared.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "compositions.hpp"
#include "large_stack.hpp"
#include "moue/error.hpp"

using test::large;
using test::same;
constexpr auto tokens = test::large_batch;

TEST_CASE("results are the same bits for any number of threads") {
  for (const auto* name : {"keyed_trajectory", "always_on", "mixed_pool", "uneven_widths"}) {
    CAPTURE(name);
    const auto alone = test::compose(name, large, moue::cpu{});
    const auto weights = test::random_weights(*alone, 1);
    auto input = test::random_input(*alone, tokens, 2);
    input.valid.assign(tokens, 1);
    input.valid[7] = 0;
    const auto expected = test::run_stack(*alone, weights, input);
    for (moue::index_t threads = 1; threads <= 4; ++threads) {
      CAPTURE(threads);
      const moue::cpu backend(threads);
      CHECK(backend.workers() == threads);
      CHECK(same(test::run_stack(*test::compose(name, large, backend), weights, input), expected));
    }
  }
}

TEST_CASE("the exception of the first task that throws comes through, and the pool lives on") {
  auto rejecting = large;
  rejecting.on_non_finite = moue::non_finite::reject;
  const auto model = test::compose("linear_raw", rejecting, moue::cpu{4});
  const auto weights = test::random_weights(*model, 1);
  const auto input = test::random_input(*model, tokens, 2);
  const auto clean = test::run_stack(*model, weights, input);
  auto broken = input;
  for (const moue::index_t t : {150, 290, 430, 590})
    broken.x[static_cast<std::size_t>(t * model->width())] = std::numeric_limits<double>::quiet_NaN();
  for (int repeat = 0; repeat < 10; ++repeat)
    CHECK_THROWS_WITH_AS(test::run_stack(*model, weights, broken), doctest::Contains("for token 150 at layer 0"),
                         moue::error);
  CHECK(same(test::run_stack(*model, weights, input), clean));
}

TEST_CASE("passes over one mixture may run at once, and copies of a backend share its threads") {
  const moue::cpu backend(3);
  const auto model = test::compose("keyed_trajectory", large, backend);
  const auto other = test::compose("keyed_trajectory", large, moue::cpu(backend));
  const auto weights = test::random_weights(*model, 1);
  struct job {
    test::model_pointer<double> model;
    std::uint64_t seed;
    std::vector<test::stack_result<double>> results;
  };
  std::vector<job> jobs{{model, 2, {}}, {model, 3, {}}, {other, 4, {}}};
  {
    std::vector<std::jthread> running;
    for (auto& j : jobs)
      running.emplace_back([&weights, &j] {
        for (int repeat = 0; repeat < 3; ++repeat)
          j.results.push_back(test::run_stack(*j.model, weights, test::random_input(*j.model, tokens, j.seed)));
      });
  }
  for (const auto& j : jobs) {
    const auto expected = test::run_stack(*model, weights, test::random_input(*model, tokens, j.seed));
    REQUIRE(j.results.size() == 3);
    for (const auto& result : j.results) CHECK(same(result, expected));
  }
}
