// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Published layers, each a composition of the library's policies and a few lines of one's own, on one batch. What they
// compute agrees with numbers that were computed independently (test/unit/published.cpp).

#include <array>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

#include "published/expert_choice.hpp"
#include "published/gshard.hpp"
#include "published/moepp.hpp"
#include "published/noisy_top_k.hpp"
#include "published/norm_router.hpp"
#include "published/sequence_balance.hpp"
#include "published/shazeer.hpp"
#include "published/soft.hpp"
#include "published/specialisation.hpp"
#include "published/top_p.hpp"
#include "published/usmoe.hpp"

constexpr moue::index_t tokens = 24, width = 8, expert_count = 6;

template <class S>
std::vector<S> input() {
  std::vector<S> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<S>(i * i % 53));
  return x;
}

/// A training step of x <- x + layer(x); prints the parts of the balancing loss, and what was selected and dropped.
auto train(const char* name, const auto& model) {
  const auto weights = model.template initialize<float>(1);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  auto x = input<float>(), y = x;
  const moue::matrix_view<float> rows{x.data(), tokens, width}, out{y.data(), tokens, width};
  const auto add = [&] {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  };
  const std::array<moue::index_t, 3> sequences{0, 10, tokens};
  pass.begin(tokens, {.sequences = {sequences.data(), 3}}, {.step = 1, .seed = 7});
  for (moue::index_t layer = 0; layer < model.layers(); ++layer, add()) pass.forward(layer, rows, out);
  const auto balance = pass.balance();
  pass.arm();
  for (moue::index_t layer = model.layers(); layer-- > 0; add()) pass.backward(layer, rows, out, gradients);

  std::printf("%-15s", name);
  for (const float part : balance.parts) std::printf(" %.3f", static_cast<double>(part));
  const auto counts = pass.counts();
  std::int64_t selected = 0, dropped = 0;
  for (std::size_t j = 0; j < counts.demand.size(); ++j) {
    selected += counts.demand[j];
    dropped += counts.demand[j] - counts.load[j];
  }
  std::printf(": %d entries, %d dropped\n", static_cast<int>(selected), static_cast<int>(dropped));
  return counts;
}

/// The same of one layer with SwiGLU experts.
auto step(const char* name, const auto& router, const auto& loss) {
  return train(name, moue::mixture{moue::swiglu{.width = width, .hidden = 12},
                                   moue::shared_pool{.depth = 1, .pool = expert_count}, router, loss, moue::cpu{2}});
}

/// Nothing is selected: forward and backward of |y|² / 2, and what central differences say of one parameter.
void soft() {
  const published::soft_mixture model{moue::swiglu{.width = width, .hidden = 12}, expert_count, 2, moue::cpu{2}};
  moue::parameters<double> weights(model.layout());
  moue::initialize(weights, 1);
  moue::gradients<double> gradients(model.layout());
  moue::arena counter;
  model.take<double>(counter, tokens);
  const moue::workspace scratch(counter.bytes());
  moue::arena memory(scratch.bytes());
  auto batch = model.take<double>(memory, tokens);

  auto x = input<double>(), y = x, dx = x;
  const auto rows = [](std::vector<double>& v) { return moue::matrix_view<double>{v.data(), tokens, width}; };
  const auto loss = [&](double scale) {
    weights["scale"](0, 0) = scale;
    model.forward(weights, rows(x), {}, rows(y), batch);
    double sum = 0;
    for (const double v : y) sum += v * v / 2;
    return sum;
  };
  const double slope = (loss(1.001) - loss(0.999)) / 0.002;
  loss(1);
  model.backward(weights, rows(x), rows(y), rows(dx), gradients, batch);
  std::printf("%-15s: gradient of its scale %.5f, by differences %.5f\n", "Soft MoE", gradients["scale"](0, 0), slope);
}

int main() {
  const moue::linear_score score{.deviation = 1};
  step("GShard", moue::router{score, published::capacity_top_k{.k = 2, .factor = 1}, moue::softmax_of_selected{}},
       published::first_choice_loss{.weight = 1});

  step("V-MoE",
       moue::router{moue::score_sum{score, published::noise_score<>{}}, moue::top_k{2}, moue::softmax_then_select{}},
       moue::sum_of_losses{published::variation_of<published::clean_probability<>>{0.5},
                           published::variation_of<published::beating_probability<>>{0.5}});

  using load = published::variation_of<published::selection_probability<>>;
  step("noisy top-k", moue::router{published::noisy_score<>{}, moue::top_k{2}, moue::softmax_of_selected{}},
       moue::sum_of_losses{published::variation_of<published::gate_of_candidate>{1}, load{1}});

  const moue::router deepseek =
      moue::router{score, moue::group_limited{2, {.size = 2, .allowed = 2, .best = 2}}, moue::sigmoid_renormalised{}}
          .with(moue::biased_sigmoid{})
          .with(moue::sigmoid_probability{});
  const auto counts = step("DeepSeek-V3", deepseek, published::sequence_balance{.weight = 1, .most = 2});
  std::array<float, expert_count> bias{};  // of its preference, which a controller sets after each step
  published::update_bias(moue::matrix_view<float>{bias.data(), 1, expert_count}, counts.load, 0.001);
  std::printf("%-15s", "  its bias next");
  for (const float b : bias) std::printf(" %+.3f", static_cast<double>(b));
  std::printf("\n");

  step("expert choice", moue::router{score, published::expert_choice{.factor = 2}, moue::softmax_then_select{}},
       moue::no_balancing{});
  step("NormRouter", moue::router{score, moue::top_k{2}, published::as_they_are{}}.with(published::on_sphere{}),
       moue::no_balancing{});

  step("specialisation", moue::router{score, moue::top_k{2}, moue::softmax_of_selected{}},
       moue::sum_of_losses{moue::switch_loss{1}, published::orthogonality_loss{.weight = 1},
                           published::gate_variance_loss{.weight = 1}});

  step("dynamic top-p", moue::router{score, published::top_p{.p = 0.4}, moue::softmax_then_select{}},
       moue::sum_of_losses{moue::switch_loss{1}, published::entropy_loss{.weight = 1}});

  step("USMoE",
       moue::router{score, published::best_of_sequence{.k = 2}, published::unified_gate{}}.with(
           published::unified_score{}),
       moue::no_balancing{});

  constexpr published::mixed_layer kinds{.ffn = 4, .constant = 2};
  train("MoE++", moue::mixture{moue::expert_pool{kinds, moue::swiglu{.width = width, .hidden = 12},
                                                 moue::constant_expert{.width = width},
                                                 moue::copy_expert{.width = width}, moue::zero_expert{.width = width}},
                               moue::layer_local{.depth = 3, .per_layer = kinds.size()},
                               moue::router{moue::score_sum{score, published::pathway_score{.deviation = 0.2}},
                                            moue::top_k{2}, moue::softmax_then_select{}},
                               published::heterogeneous_balance{.layer = kinds, .k = 2, .weight = 1}, moue::cpu{2}});

  soft();

  for (const auto& laws : {moue::testing::check_balance_laws(published::orthogonality_loss{}),
                           moue::testing::check_score_laws(published::pathway_score{}),
                           moue::testing::check_select_laws(published::top_p{}),
                           moue::testing::check_select_laws(published::best_of_sequence{})}) {
    std::printf("%s: laws %s\n", laws.subject().c_str(), laws ? "hold" : laws.summary().c_str());
    if (!laws) return 1;
  }
}
