// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One composition in any storage type, against the same in double.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "moue/backend/reference.hpp"
#include "recipe.hpp"
#include "stack.hpp"
#include "stored_model.hpp"

namespace test {

/// Defined in compositions_reference.cpp.
model_pointer<double> compose(std::string_view name, const recipe& r, moue::reference backend);

/// Whether a layer rounds to S what it computes with inside.
enum class inside { exact, rounded };

/// Compares `model`, made by `stored_as`, with the same weights and inputs in double. `roundoff` of S bounds the error of
/// the first layer's output, relative to each number where it alone is rounded, to the largest where factors inside are,
/// too; `stack` bounds that of the whole, gradients included.
template <moue::Storage S>
void check_against_double(const model_pointer<S>& model, double roundoff, double stack, inside how = inside::exact) {
  using C = moue::compute_t<S>;
  auto r = everything;
  r.switch_weight = 0;
  const auto oracle = compose("keyed_trajectory", r, moue::reference{});
  const auto weights = random_weights(*model, 1);
  moue::parameters<double> widened(oracle->layout());
  for (moue::index_t i = 0; i < widened.layout().tensors(); ++i)
    std::transform(weights[i].data, weights[i].data + widened.layout()[i].size(), widened[i].data,
                   [](S v) { return static_cast<double>(static_cast<C>(v)); });
  auto input = random_input(*model, 40, 2);
  for (auto& x : input.x) x = static_cast<C>(S(x));
  auto same = random_input(*oracle, 40, 2);
  std::copy(input.x.begin(), input.x.end(), same.x.begin());
  const auto result = run_stack(*model, weights, input);
  const auto expected = run_stack(*oracle, widened, same);
  CHECK(distance(result.visits[0].logits, expected.visits[0].logits) < 1e-6);  // never rounded to S
  const auto& y = expected.visits[0].y;
  double largest = 0;
  for (const double exact : y) largest = std::max(largest, std::abs(exact));
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double scale = how == inside::exact ? std::abs(y[i]) : largest;
    CHECK(std::abs(static_cast<double>(result.visits[0].y[i]) - y[i]) <= roundoff * scale + 1e-6);
  }
  CHECK(distance(result.output, expected.output) < stack);
  CHECK(distance(result.dx, expected.dx) < stack);
  CHECK(static_cast<double>(result.balance) == doctest::Approx(expected.balance).epsilon(stack));
  for (moue::index_t i = 0; i < widened.layout().tensors(); ++i) {
    CAPTURE(widened.layout()[i].name);
    CHECK(distance(to_vector(result.gradients[i]), to_vector(expected.gradients[i])) < stack);
  }
}

}  // namespace test
