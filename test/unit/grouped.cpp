// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Backends that run all experts of a kind at once, in memory that the host cannot see.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "compositions.hpp"
#include "island.hpp"
#include "stack.hpp"

namespace {

void check_same(const std::string& name, moue::index tokens, const std::vector<std::uint8_t>& valid) {
  CAPTURE(name);
  CAPTURE(tokens);
  const auto here = test::compose(name, {}, moue::reference{});
  const auto there = test::compose(name, {}, test::island{});
  const auto weights = test::random_weights(*here, 11);
  auto input = test::random_input(*here, tokens, 5);
  input.valid = valid;
  for (const auto how : {moue::mode::training, moue::mode::inference}) {
    const auto expected = test::run_stack(*here, weights, input, how);
    const auto result = test::run_stack(*there, weights, input, how);
    CHECK(test::same_bits(result.output, expected.output));
    CHECK(result.loss == expected.loss);
    CHECK(test::same_bits(result.dx, expected.dx));
    CHECK(test::same_bits(result.gradients, expected.gradients));
    CHECK(test::same_bits(result.share, expected.share));
    CHECK(test::same_bits(result.probability, expected.probability));
    for (std::size_t l = 0; l < expected.visits.size(); ++l) {
      CHECK(test::same_bits(result.visits[l].logits, expected.visits[l].logits));
      CHECK(result.visits[l].experts == expected.visits[l].experts);
      CHECK(test::same_bits(result.visits[l].gates, expected.visits[l].gates));
    }
  }
}

}  // namespace

TEST_CASE("experts of a kind run together as they run one by one, to the bit") {
  for (const auto& name : test::compositions()) {
    check_same(name, 9, {1, 1, 0, 1, 1, 1, 1, 0, 1});
    check_same(name, 1, {});
    check_same(name, 0, {});
    check_same(name, 300, {});  // more than one block of the count of valid tokens
    check_same(name, 2, {0, 0});
  }
}

TEST_CASE("the memory of an island is closed") {
  const test::island there;
  const std::array<double, 1> sent{3};
  auto* const memory = static_cast<double*>(there.allocate(sizeof(double)));
  there.upload(std::span<const double>(sent), memory);
  double back = 0;
  there.download(memory, std::span(&back, 1));
  CHECK(back == 3);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // without the test program's report of what is meant to happen
    ::_exit(*static_cast<volatile double*>(memory) == 3 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) <= 1));
  there.release(memory);
}

TEST_CASE("a backend that cannot throw refuses to reject") {
  test::recipe r;
  r.on_non_finite = moue::non_finite::reject;
  const auto model = test::compose("normalised", r, test::island{});
  CHECK_THROWS_WITH_AS(test::run_stack(*model, test::random_weights(*model, 11), test::random_input(*model, 3, 5)),
                       doctest::Contains("non_finite::reject was asked of a backend that cannot throw"), moue::error);
}
