// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whether a source and its conversion, all foreign connections closed, agree to the bit.

#include <doctest/doctest.h>

#include <vector>

#include "conversion.hpp"

namespace test {

/// A score with everything: keys shared by layers, depth state, and a bias on the logits.
inline auto keyed_path_score() { return moue::score_sum{moue::keyed_score{}, moue::trajectory{3}, moue::logit_bias{}}; }

/// Checks outputs, losses, depth state, input gradients and the gradients of all tensors of the source.
template <moue::Storage S, class ScoreT, class BackendT>
void check_bits(const source_recipe& recipe, const ScoreT& score, const BackendT& backend,
                const std::vector<moue::index_t>& batches) {
  const auto source = make_source(recipe, score, backend);
  const auto plan = ring_plan(source);
  const auto converted = moue::convert::moe_to_moue(source, plan);
  const auto a = test::erase<S>(source);
  const auto b = test::erase<S>(converted);
  const auto old = random_weights<S>(*a, 11);
  const auto weights = moue::convert::start(converted, source, old, plan, moue::convert::home_row{2});
  CHECK(first_difference(old, weights) == "");
  for (const moue::index_t tokens : batches)
    for (const auto how : {moue::mode::training, moue::mode::inference}) {
      auto input = random_input<S>(*a, tokens, 7);
      if (tokens > 1) {
        input.valid.assign(static_cast<std::size_t>(tokens), 1);
        input.valid[1] = 0;
      }
      INFO("convention ", static_cast<int>(recipe.which), ", width ", recipe.width, ", ", recipe.experts,
           " experts a layer, ", recipe.shared, " shared, ", tokens, " tokens, inference ",
           how == moue::mode::inference);
      CHECK(difference(run_stack<S>(*a, old, input, how), run_stack<S>(*b, weights, input, how)) == "");
    }
}

/// The same for every gate convention: a tiny model, and one that the backend's blocked products see.
template <moue::Storage S, class ScoreT, class BackendT>
void check_bits_of_all(const ScoreT& score, const BackendT& backend) {
  const source_recipe wide{.width = 33, .hidden = 24, .experts = 5, .shared = 1, .k = 3};
  for (const auto which : conventions) {
    check_bits<S>({.which = which}, score, backend, {0, 1, 5, 64});
    auto same = wide;
    same.which = which;
    check_bits<S>(same, score, backend, {16});
  }
  check_bits<S>({.width = 12, .shared = 1}, score, backend, {300});
  check_bits<S>({.experts = 1}, score, backend, {5});  // fewer than k at home
}

}  // namespace test
