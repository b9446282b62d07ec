// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The thread pool of the CPU backend: it changes no bit, carries exceptions, and can be shared.

#include <doctest/doctest.h>

#include <array>
#include <barrier>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "compositions.hpp"
#include "large_stack.hpp"
#include "moue/error.hpp"
#include "moue/executor.hpp"
#include "moue/expert/mlp.hpp"
#include "stored_model.hpp"

namespace {

/// A 16-bit number. Two threads that read as many as a weight has wait for each other at the last one: both have then
/// widened a weight, and neither has used it.
struct met {
  moue::bf16 value;

  met() = default;
  explicit met(float x) : value(x) {}
  operator float() const {
    if (meeting != nullptr && ++read % size == 0) meeting->arrive_and_wait();
    return value;
  }
  static inline std::barrier<>* meeting = nullptr;
  static inline moue::index_t size = 1;
  static inline thread_local moue::index_t read = 0;
};

}  // namespace

template <>
struct moue::compute_type<met> {
  using type = float;
};

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

TEST_CASE_TEMPLATE("so they are of numbers in other types", S, float, moue::bf16, moue::half) {
  const auto alone = test::stored_as<S>(moue::cpu{});
  const auto weights = test::random_weights(*alone, 1);
  const auto input = test::random_input(*alone, tokens, 2);
  const auto expected = test::run_stack(*alone, weights, input);
  for (moue::index_t threads = 2; threads <= 4; ++threads) {
    const auto result = test::run_stack(*test::stored_as<S>(moue::cpu(threads)), weights, input);
    CHECK(test::same_bits(result.output, expected.output));
    CHECK(test::same_bits(result.dx, expected.dx));
    CHECK(test::same_bits(result.gradients, expected.gradients));
    CHECK(result.balance == expected.balance);
  }
}

TEST_CASE("threads widen weights side by side, each in a place of its own") {
  constexpr moue::index_t width = 6, hidden = 5;
  const auto outputs = [&](moue::index_t threads, std::barrier<>* meeting) {
    const moue::executor run{moue::mlp<moue::silu>{width, hidden}, 2, moue::cpu(threads)};
    moue::parameters<met> weights(run.layout());
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        weights[i].data[j] = met(static_cast<float>(test::noise(static_cast<std::uint64_t>(i), j)));
    const std::array<moue::index_t, 3> offsets{0, 1, 2};
    const std::array<std::int32_t, 2> ids{0, 1};
    const std::array<float, 2> gates{1, 1};
    const moue::routing<float> given{{offsets.data(), 3}, {ids.data(), 2}, {gates.data(), 2}};
    moue::workspace block(run.workspace_bytes<met>(2, 2));
    auto memory = run.carve<met>(block, 2, 2);
    std::vector<float> x(2 * width, 1), y(x.size());
    met::size = width * hidden;
    met::meeting = meeting;
    run.forward(given, weights, moue::matrix_view<const float>{x.data(), 2, width},
                moue::matrix_view<float>{y.data(), 2, width}, memory);
    met::meeting = nullptr;
    return y;
  };
  std::barrier<> both(2);
  CHECK(test::same_bits(outputs(2, &both), outputs(1, nullptr)));
}
