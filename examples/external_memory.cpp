// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Weights, gradients and scratch in memory that the caller provides, as another framework would.

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <moue/moue.hpp>
#include <vector>

int main() {
  const moue::index_t tokens = 10, width = 4;
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 6}, moue::layer_local{.depth = 2, .per_layer = 3},
                            moue::linear_router(1), moue::no_balancing{}, moue::cpu{2}};

  // One buffer per tensor, in the order of the layout; they may lie anywhere.
  std::vector<std::vector<float>> values, slopes;
  std::vector<float*> external_values, external_slopes;
  for (const auto& tensor : *model.layout()) {
    values.emplace_back(tensor.size());
    slopes.emplace_back(tensor.size());
    external_values.push_back(values.back().data());
    external_slopes.push_back(slopes.back().data());
  }
  moue::parameters<float> weights(model.layout(), external_values);
  moue::gradients<float> gradients(model.layout(), external_slopes);
  moue::initialize(weights, 9);

  const moue::pass_options options{.tokens = tokens};
  std::vector<std::byte> block(model.workspace_bytes<float>(options));
  moue::workspace scratch{std::span(block)};
  auto pass = model.start(weights, options, scratch);

  // Rows may stand apart: here the layer works on columns 2 to 5 of a wider matrix.
  std::vector<float> wide(tokens * 8);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = std::sin(static_cast<float>(i));
  const auto before = wide;
  const moue::matrix_view<float> x{wide.data() + 2, tokens, width, 8};
  pass.begin(tokens);
  pass.forward(0, x, x);
  pass.forward(1, x, x);
  pass.backward(1, x, x, gradients);
  pass.backward(0, x, x, gradients);

  bool beside = true;
  for (std::size_t i = 0; i < wide.size(); ++i) beside = beside && ((i % 8 >= 2 && i % 8 < 6) || wide[i] == before[i]);
  float sum = 0;
  for (const auto& tensor : slopes)
    for (const float g : tensor) sum += std::abs(g);
  std::printf("weights are ours: %s\n", weights.owned() ? "no" : "yes");
  std::printf("gradients arrived: %s\n", sum > 0 ? "yes" : "no");
  std::printf("columns beside the view are as they were: %s\n", beside ? "yes" : "no");
}
