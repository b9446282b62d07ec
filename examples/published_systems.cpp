// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Four published layers, each a composition of the library's policies and a few lines of one's own, on one batch. What they
// compute agrees with numbers that were computed independently (test/unit/published.cpp).

#include <array>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

#include "published/gshard.hpp"
#include "published/noisy_top_k.hpp"
#include "published/sequence_balance.hpp"
#include "published/specialisation.hpp"

constexpr moue::index_t tokens = 24, width = 8, pool = 6;

/// Forward, balance and backward of a training step; prints the parts of the balancing loss and what was dropped.
void step(const char* name, const auto& router, const auto& loss) {
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 12}, moue::shared_pool{.depth = 1, .pool = pool},
                            router, loss, moue::cpu{2}};
  const auto weights = model.template initialize<float>(1);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * i % 53));
  const moue::matrix_view<float> rows{x.data(), tokens, width};
  const std::array<moue::index_t, 3> sequences{0, 10, tokens};
  pass.begin(tokens, {.sequences = {sequences.data(), 3}}, {.step = 1, .seed = 7});
  pass.forward(0, rows, rows);
  const auto balance = pass.balance();
  pass.arm();
  pass.backward(0, rows, rows, gradients);

  std::printf("%-15s", name);
  for (const float part : balance.parts) std::printf(" %.3f", static_cast<double>(part));
  const auto counts = pass.counts();
  std::int64_t dropped = 0;
  for (std::size_t j = 0; j < counts.demand.size(); ++j) dropped += counts.demand[j] - counts.load[j];
  std::printf(", %d entries dropped\n", static_cast<int>(dropped));
}

int main() {
  const moue::linear_score score{.deviation = 1};
  step("GShard", moue::router{score, published::capacity_top_k{.k = 2, .factor = 1}, moue::softmax_of_selected{}},
       published::first_choice_loss{.weight = 1});

  step("V-MoE",
       moue::router{moue::score_sum{score, published::noise_score<>{}}, moue::top_k{2}, moue::softmax_then_select{}},
       moue::sum_of_losses{published::variation_loss<>{.load = false}, published::variation_loss<>{.load = true}});

  const moue::router deepseek =
      moue::router{score, moue::group_limited{2, {.size = 2, .allowed = 2, .best = 2}}, moue::sigmoid_renormalised{}}
          .with(moue::biased_sigmoid{})
          .with(moue::sigmoid_probability{});
  step("DeepSeek-V3", deepseek, published::sequence_balance{.weight = 1, .most = 2});

  step("specialisation", moue::router{score, moue::top_k{2}, moue::softmax_of_selected{}},
       moue::sum_of_losses{moue::switch_loss{1}, published::orthogonality_loss{.weight = 1},
                           published::gate_variance_loss{.weight = 1}});

  const auto laws = moue::testing::check_balance_laws(published::orthogonality_loss{});
  std::printf("laws: %s\n", laws ? "hold" : laws.summary().c_str());
  return laws ? 0 : 1;
}
