// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Tensors go both ways by DLPack: a mixture reads and writes another library's activations where they lie, and that
// library's optimiser trains the mixture's weights where they lie. The other library is libtorch, and could be any.

#include <ATen/DLConvertor.h>
#include <ATen/dlpack.h>
#include <torch/optim/adam.h>
#include <torch/types.h>

#include <cstddef>
#include <cstdio>
#include <memory>
#include <moue/adapt/dlpack.hpp>
#include <moue/moue.hpp>
#include <vector>

int main() {
  const moue::index_t tokens = 64, width = 8;
  const moue::mixture model{moue::mlp<moue::silu>{.width = width, .hidden = 16},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01}};

  // Ours, lent to them: each of their tensors keeps the owner alive.
  const auto weights = std::make_shared<moue::parameters<float>>(model.initialize<float>(11));
  const auto gradients = std::make_shared<moue::gradients<float>>(model.layout());
  std::vector<at::Tensor> values, slopes;
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
    values.push_back(at::fromDLPack(moue::to_dlpack((*weights)[i], weights)).set_requires_grad(true));
    slopes.push_back(at::fromDLPack(moue::to_dlpack((*gradients)[i], gradients)));
  }
  torch::optim::Adam optimiser(values, 1e-2);

  // Theirs, seen by us.
  torch::manual_seed(1);
  const auto input = torch::randn({tokens, width}), target = input.abs();
  const auto x = torch::empty_like(input), y = torch::empty_like(input), d = torch::empty_like(input),
             dx = torch::empty_like(input);
  const moue::dlpack_tensor our_x(at::toDLPack(x)), our_y(at::toDLPack(y)), our_d(at::toDLPack(d)),
      our_dx(at::toDLPack(dx));

  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(*weights, options, scratch);
  float first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    pass.begin(tokens);
    x.copy_(input);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass.forward(layer, our_x.rows<const float>(), our_y.rows<float>());
      x.add_(y);
    }
    last = (x - target).square().mean().item<float>() + pass.balance();
    if (step == 0) first = last;
    pass.arm();
    d.copy_(2 * (x - target) / static_cast<double>(x.numel()));
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass.backward(layer, our_d.rows<const float>(), our_dx.rows<float>(), *gradients);
      d.add_(dx);
    }
    for (std::size_t i = 0; i < values.size(); ++i)  // experts that nobody reached stay as they are
      values[i].mutable_grad() = gradients->live(static_cast<moue::index_t>(i)) ? slopes[i] : at::Tensor();
    optimiser.step();
    gradients->reset();
  }
  std::printf("the loss fell to less than a tenth: %s\n", last < first / 10 ? "yes" : "no");
  std::printf("the weights are shared: %s\n", (*weights)[0].data == values[0].data_ptr<float>() ? "yes" : "no");
}
