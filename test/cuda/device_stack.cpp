// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Whole stacks on a device.

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "compositions_device.hpp"
#include "moue/backend/reference.hpp"
#include "stack_agreement.hpp"

namespace {

constexpr double tolerance = 1e-12;  // sums of up to a few hundred terms in another order, with fused multiply-adds

void check_same(const std::string& name, const test::recipe& r, moue::index_t tokens,
                const std::vector<std::uint8_t>& valid = {}) {
  CAPTURE(name);
  CAPTURE(tokens);
  const auto here = test::compose(name, r, moue::reference{});
  const auto there = test::compose_on_device(name, r);
  const auto weights = test::random_weights(*here, 11);
  auto input = test::random_input(*here, tokens, 5);
  input.valid = valid;
  for (const auto how : {moue::mode::training, moue::mode::inference}) {
    const auto expected = test::run_stack(*here, weights, input, how);
    const auto result = test::run_stack(*there, weights, input, how);
    test::check_agreement(result, expected, tolerance);
  }
}

}  // namespace

TEST_CASE("every composition, forward and backward") {
  for (const auto& name : test::compositions_on_device()) {
    for (const moue::index_t tokens : {0, 1, 9, 300}) check_same(name, {}, tokens);
    check_same(name, {}, 9, {1, 1, 0, 1, 1, 1, 1, 0, 1});
    check_same(name, {.width = 40, .hidden = 33, .ring = {.depth = 2, .pool = 257, .window = 257, .stride = 0}, .k = 8},
               70);
  }
}

TEST_CASE("two runs give the same bits") {
  for (const auto& name : test::compositions_on_device()) {
    CAPTURE(name);
    const auto model = test::compose_on_device(name, {});
    const auto weights = test::random_weights(*model, 1);
    const auto input = test::random_input(*model, 300, 2);
    const auto first = test::run_stack(*model, weights, input), second = test::run_stack(*model, weights, input);
    CHECK(test::same_bits(first.output, second.output));
    CHECK(test::same_bits(first.dx, second.dx));
    CHECK(test::same_bits(first.gradients, second.gradients));
    CHECK(first.loss == second.loss);
  }
}
