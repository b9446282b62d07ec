// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Backward of whole stacks against central differences, and the CPU backend against the reference.

#include <doctest/doctest.h>

#include "compositions.hpp"
#include "stack.hpp"

namespace {

test::stack_input<double> padded_input(const test::any_model<double>& model, std::uint64_t seed) {
  auto input = test::random_input(model, 9, seed);
  input.valid = {1, 1, 0, 1, 1, 1, 1, 0, 1};
  return input;
}

void check_differences(const test::any_model<double>& model, const test::stack_input<double>& input) {
  const auto worst = test::compare_with_differences(model, test::random_weights(model, 11), input);
  CAPTURE(worst.where);
  CHECK(worst.error < 1e-6);  // differences are good to about 1e-8 of a tensor's largest gradient
}

}  // namespace

TEST_CASE("every composition agrees with central differences") {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    const auto model = test::compose(name, {}, moue::reference{});
    check_differences(*model, padded_input(*model, 5));
  }
}

TEST_CASE("so it does behind a norm, with an input of its own for the router") {
  for (const auto& name : test::compositions()) {
    if (test::compose_public(name, {}, moue::reference{})) continue;  // for time; the way in is the same for all
    CAPTURE(name);
    const auto model = test::compose(name, {}, moue::reference{});
    auto input = padded_input(*model, 5);
    input.scale = test::noise_vector(21, model->layers() * model->width(), 0.3);
    for (auto& s : input.scale) s += 1;
    input.shift = test::noise_vector(22, model->layers() * model->width());
    check_differences(*model, input);
  }
}

TEST_CASE("every tensor that is trained gets a gradient, and no other") {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    const auto model = test::compose(name, {}, moue::reference{});
    const auto result = test::run_stack(*model, test::random_weights(*model, 11), padded_input(*model, 5));
    for (moue::index_t i = 0; i < model->layout()->tensors(); ++i) {
      const auto& info = (*model->layout())[i];
      const bool first_map = info.name == "layers.0.router.trajectory_map";  // it meets a state of zero
      if (!result.gradients.live(i)) continue;
      CAPTURE(info.name);
      double sum = 0;
      for (const double g : test::to_vector(result.gradients[i])) sum += std::abs(g);
      CHECK((sum > 0) == (info.trained && !(first_map && name != "tied_revisits")));
    }
  }
}

TEST_CASE("the CPU backend agrees with the reference") {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    const test::recipe wide{.width = 19, .hidden = 23};  // no multiple of a vector's length
    const auto plain = test::compose(name, wide, moue::reference{});
    const auto fast = test::compose(name, wide, moue::cpu{});
    const auto weights = test::random_weights(*plain, 3);
    auto input = test::random_input(*plain, 37, 4);
    input.valid.assign(37, 1);
    input.valid[5] = 0;
    const auto expected = test::run_stack(*plain, weights, input);
    const auto result = test::run_stack(*fast, weights, input);
    for (std::size_t l = 0; l < expected.visits.size(); ++l)
      CHECK(result.visits[l].experts == expected.visits[l].experts);
    // Sums of a few dozen terms, in another order, through six layers at most.
    CHECK(test::distance(result.output, expected.output) < 1e-12);
    CHECK(test::distance(result.dx, expected.dx) < 1e-12);
    CHECK(test::distance(result.gradients, expected.gradients) < 1e-12);
    CHECK(result.balance == doctest::Approx(expected.balance).epsilon(1e-13));
  }
}
