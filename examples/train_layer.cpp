// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A tiny regression: three mixture layers with residuals learn a map that no single linear layer can.

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/train/adamw.hpp>
#include <vector>

int main() {
  const moue::index_t tokens = 64, width = 8;
  const std::size_t size = tokens * width;
  const moue::mixture model{moue::mlp<moue::silu>{.width = width, .hidden = 16},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01}};
  auto weights = model.initialize<float>(11);
  moue::gradients<float> gradients(model.layout());
  moue::adamw<float> optimiser(weights, {.weight_decay = 0});
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> input(size), target(size), x(size), y(size), dx(size), dy(size);
  for (std::size_t i = 0; i < size; ++i) {
    input[i] = std::sin(static_cast<float>(i * i % 211));
    target[i] = std::abs(input[i]);
  }
  const auto view = [&](std::vector<float>& v) { return moue::matrix_view<float>{v.data(), tokens, width}; };

  float first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    pass.begin(tokens);
    x = input;
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass.forward(layer, view(x), view(y));
      for (std::size_t i = 0; i < size; ++i) x[i] += y[i];
    }
    last = pass.balance();
    for (std::size_t i = 0; i < size; ++i) {
      const float error = x[i] - target[i];
      last += error * error / static_cast<float>(size);
      dx[i] = 2 * error / static_cast<float>(size);
    }
    if (step == 0) first = last;
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass.backward(layer, view(dx), view(dy), gradients);
      for (std::size_t i = 0; i < size; ++i) dx[i] += dy[i];
    }
    optimiser.step(weights, gradients, 0.01);
    gradients.reset();
  }
  std::printf("the loss fell to less than a tenth: %s\n", last < first / 10 ? "yes" : "no");
}
