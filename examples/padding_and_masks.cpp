// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Padding tokens count nowhere, and closed candidates are never taken.

#include <cmath>
#include <cstdio>
#include <limits>
#include <moue/moue.hpp>
#include <vector>

int main() {
  const moue::index_t tokens = 6, width = 4;
  const moue::router closable{moue::score_sum{moue::linear_score{.deviation = 1}, moue::logit_bias{}}, moue::top_k{2},
                              moue::softmax_of_selected{}};
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 8}, moue::shared_pool{.depth = 2, .pool = 5},
                            closable, moue::switch_loss{}};
  auto weights = model.initialize<double>(2);
  weights["layers.0.router.bias"](0, 3) = -std::numeric_limits<double>::infinity();  // closes column 3 of layer 0
  moue::gradients<double> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<double> x(tokens * width), y(x.size()), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  const std::vector<std::uint8_t> mask{1, 1, 1, 1, 0, 0};
  for (std::size_t i = 4 * width; i < x.size(); ++i) x[i] = std::numeric_limits<double>::quiet_NaN();

  /// Runs both layers on the first `count` tokens and returns the balancing loss.
  const auto run = [&](moue::index_t count, const moue::side_inputs& inputs) {
    const auto view = [&](std::vector<double>& v) { return moue::matrix_view<double>{v.data(), count, width}; };
    pass.begin(count, inputs);
    pass.forward(0, view(x), view(y));
    pass.forward(1, view(y), view(y));
    const double loss = pass.balance();
    pass.arm();
    pass.backward(1, view(y), view(dx), gradients);
    pass.backward(0, view(dx), view(dx), gradients);
    return loss;
  };
  const auto zero_from = [&](const std::vector<double>& v, std::size_t first) {
    bool zero = true;
    for (std::size_t i = first; i < v.size(); ++i) zero = zero && v[i] == 0;
    return zero;
  };

  const double padded = run(6, {.valid = {mask.data(), tokens}});
  std::printf("valid tokens: %td of %td\n", pass.valid_tokens(), pass.tokens());
  std::printf("padding gets zero output: %s\n", zero_from(y, 4 * width) ? "yes" : "no");
  std::printf("padding gets zero gradient: %s\n", zero_from(dx, 4 * width) ? "yes" : "no");
  bool closed = true;
  for (moue::index_t t = 0; t < 4; ++t)
    for (const auto column : pass.selected(0).row(t)) closed = closed && column != 3;
  std::printf("the closed candidate is never taken: %s\n", closed ? "yes" : "no");
  const double cut = run(4, {});
  std::printf("same loss without the padding: %s\n", std::abs(padded - cut) < 1e-12 ? "yes" : "no");
}
