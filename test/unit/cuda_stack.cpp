// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Whole stacks on the CUDA backend, run by a host, in memory that nothing else may touch.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "compositions_emulated.hpp"
#include "golden.hpp"
#include "stack.hpp"
#include "stack_agreement.hpp"

namespace {

constexpr double tolerance = 1e-12;  // sums of up to a few hundred terms in another order

void check_same(const std::string& name, const test::recipe& r, const test::stack_input<double>& input,
                const test::emulated& backend = test::emulated()) {
  CAPTURE(name);
  CAPTURE(input.tokens);
  const auto here = test::compose(name, r, moue::reference{});
  const auto there = test::compose(name, r, backend);
  const auto weights = test::random_weights(*here, 11);
  for (const auto how : {moue::mode::training, moue::mode::inference}) {
    const auto expected = test::run_stack(*here, weights, input, how);
    const auto result = test::run_stack(*there, weights, input, how);
    test::check_agreement(result, expected, tolerance);
    CHECK(test::same_bits(result.share, expected.share));
  }
}

test::stack_input<double> input_of(const std::string& name, const test::recipe& r, moue::index_t tokens) {
  return test::random_input(*test::compose(name, r, moue::reference{}), tokens, 5);
}

}  // namespace

TEST_CASE("every composition, forward and backward") {
  for (const auto& name : test::compositions())
    for (const moue::index_t tokens : {0, 1, 40}) check_same(name, {}, input_of(name, {}, tokens));
  check_same("mixed_pool", {}, input_of("mixed_pool", {}, 300));  // more than one block of the count of valid tokens
}

TEST_CASE("padding, a norm in front, and an input of its own for the router") {
  for (const auto& name : test::compositions()) {
    const auto model = test::compose(name, {}, moue::reference{});
    auto input = test::random_input(*model, 9, 5);
    input.valid = {1, 1, 0, 1, 1, 1, 1, 0, 1};
    check_same(name, {}, input);
    input.scale = test::noise_vector(21, model->layers() * model->width(), 0.3);
    input.shift = test::noise_vector(22, model->layers() * model->width());
    check_same(name, {}, input);
    input.valid.assign(9, 0);
    check_same(name, {}, input);
  }
}

TEST_CASE("widths and numbers of experts at the edge") {
  struct shape {
    moue::index_t width, hidden;
    moue::staggered_rotation ring;
    moue::index_t k, tokens;
  };
  const std::vector<shape> shapes{
      {16, 24, {.depth = 2, .pool = 1, .window = 1}, 1, 5},                            // one expert
      {1, 1, {.depth = 2, .pool = 1, .window = 1}, 3, 5},                              // more asked for than there are
      {8, 8, {.depth = 1, .pool = 4, .window = 4}, 4, 1},                              // all of them, for one token
      {40, 33, {.depth = 3, .pool = 7, .window = 3, .stride = 2, .local = 1}, 9, 70},  // all of several
      {6, 5, {.depth = 2, .pool = 257, .window = 257, .stride = 0}, 8, 11},  // more candidates than a byte counts
      {6, 5, {.depth = 2, .pool = 300, .window = 259, .stride = 259, .local = 2}, 2, 3},  // most experts get nothing
  };
  for (const auto& size : shapes)
    for (const auto& name : test::compositions()) {
      if (size.ring.pool > 200 && name != "mixed_pool" && name != "tied_revisits") continue;
      CAPTURE(size.ring.pool);
      const test::recipe r{.width = size.width, .hidden = size.hidden, .ring = size.ring, .k = size.k};
      check_same(name, r, input_of(name, r, size.tokens));
    }
}

TEST_CASE("all tokens to one expert; an expert that gets none keeps gradients of exactly zero") {
  const test::recipe r{.ring = {.depth = 2, .pool = 6, .window = 6, .stride = 0}, .k = 1};
  const auto model = test::compose("linear_bias", r, test::emulated());
  auto weights = test::random_weights(*model, 1);
  for (const auto* bias : {"layers.0.router.bias", "layers.1.router.bias"}) weights[bias](0, 4) = 1000;
  const auto result = test::run_stack(*model, weights, test::random_input(*model, 50, 2));
  for (moue::index_t e = 0; e < 6; ++e) {
    CHECK(result.gradients.touched(e) == (e == 4));
    for (const auto* own : {".up", ".down"}) {
      const auto gradient = test::to_vector(result.gradients["experts." + std::to_string(e) + own]);
      CHECK(std::all_of(gradient.begin(), gradient.end(), [](double g) { return g == 0; }) == (e != 4));
    }
  }
}

TEST_CASE("whichever kernels compute the products") {
  const std::vector<moue::product_choice> choices{
      {.few_rows = 0, .dense_blas = false},                                        // low tiles
      {.few_rows = 0, .low_tiles = 0, .multiprocessors = 1, .dense_blas = false},  // high tiles
      {.few_rows = 0, .low_tiles = 0, .multiprocessors = 1, .shared_bytes = 99 << 10, .dense_blas = false},
      {.few_rows = 1000, .dense_blas = false},
      {.few_rows = 0, .dense_blas = false, .expert_blas = true, .blas_rows = 0},
  };
  for (const auto& name : {"mixed_pool", "tied_revisits"})
    for (const auto& choice : choices) {
      const test::emulated backend(1, choice);
      check_same(name, {}, input_of(name, {}, 20), backend);
      CHECK((backend.runtime().blas_calls().calls > 0) == choice.expert_blas);
    }
}

TEST_CASE("golden stacks") {
  for (const auto& name : test::golden_names) test::reproduce(name, test::emulated());
}

TEST_CASE("two runs give the same bits, whatever the order of threads") {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    const auto run = [&](std::uint64_t seed) {
      const auto model = test::compose(name, {}, test::emulated(seed));
      return test::run_stack(*model, test::random_weights(*model, 1), test::random_input(*model, 90, 2));
    };
    const auto first = run(1), second = run(1234);
    CHECK(test::same_bits(first.output, second.output));
    CHECK(test::same_bits(first.dx, second.dx));
    CHECK(test::same_bits(first.gradients, second.gradients));
    CHECK(first.loss == second.loss);
  }
}

TEST_CASE("inference repeats the training forward bit by bit") {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    const auto model = test::compose(name, {}, test::emulated());
    const auto weights = test::random_weights(*model, 1);
    const auto input = test::random_input(*model, 10, 2);
    const auto training = test::run_stack(*model, weights, input);
    const auto inference = test::run_stack(*model, weights, input, moue::mode::inference);
    CHECK(test::same_bits(training.output, inference.output));
    CHECK(training.balance == inference.balance);
  }
}
