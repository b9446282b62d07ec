// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Layers of the library in a model of libtorch's: residuals and norms of torch between them, one optimiser for all.

#include <torch/torch.h>

#include <cstdio>
#include <moue/adapt/torch.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "layers.hpp"

namespace {

constexpr int64_t width = 16, tokens = 128;

struct network : torch::nn::Module {
  std::shared_ptr<moue::torch_mixture<float>> experts;
  torch::nn::ModuleList norms;

  network() {
    experts = register_module("experts", std::make_shared<moue::torch_mixture<float>>(make_layers(width), 1));
    norms = register_module("norms", torch::nn::ModuleList());
    for (moue::index_t layer = 0; layer < experts->model().layers(); ++layer)
      norms->push_back(torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})));
  }

  /// The output and the balancing loss.
  std::pair<at::Tensor, at::Tensor> forward(at::Tensor h) {
    auto trip = experts->start({.tokens = h.size(0)});
    for (moue::index_t layer = 0; layer < experts->model().layers(); ++layer) {
      const auto x = norms[static_cast<std::size_t>(layer)]->as<torch::nn::LayerNorm>()->forward(h);
      h = h + trip.forward(layer, x);
    }
    return {h, trip.balance()};
  }
};

}  // namespace

int main() {
  torch::manual_seed(1);
  const auto model = std::make_shared<network>();
  torch::optim::AdamW optimiser(model->parameters(), torch::optim::AdamWOptions(1e-2));
  const auto x = torch::randn({tokens, width});
  const auto target = x.abs();

  float first = 0, last = 0;
  for (int step = 0; step < 100; ++step) {
    const auto [y, balance] = model->forward(x);
    const auto loss = torch::mse_loss(y, target) + balance;
    optimiser.zero_grad();
    loss.backward();
    optimiser.step();
    (step == 0 ? first : last) = loss.item<float>();
  }
  std::printf("the loss fell to a tenth: %s\n", last < first / 10 ? "yes" : "no");

  // Weights out to a file of torch's and in again, and out to the library's own.
  std::stringstream file;
  torch::save(model, file);
  auto loaded = std::make_shared<network>();
  torch::load(loaded, file);
  torch::NoGradGuard inference;
  std::printf("a loaded model computes the same: %s\n",
              torch::equal(loaded->forward(x).first, model->forward(x).first) ? "yes" : "no");
  const moue::parameters<float> weights = model->experts->weights();
  std::printf("weights are shared: %s\n",
              weights["experts.0.up"].data == model->experts->named_parameters()["experts_0_up"].data_ptr<float>()
                  ? "yes"
                  : "no");
}
