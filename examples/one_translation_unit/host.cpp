// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A host that trains any mixture and names none: it sees no template of a composition and no Eigen.

#include <cmath>
#include <cstdio>
#include <moue/any.hpp>
#include <vector>

#include "model.hpp"

#ifdef EIGEN_CORE_H
#error "moue/any.hpp brings Eigen along"
#endif

namespace {

/// Gradient descent on the distance of y from a target, with residuals around the layers. Returns the last loss.
float train(const moue::any_model<float>& model, int steps) {
  const moue::index_t tokens = 32, width = model.width();
  auto weights = model.initialize(7);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes(options));
  const auto pass = model.start(weights, options, scratch);

  std::vector<float> input(static_cast<std::size_t>(tokens * width)), x, y(input.size()), dx(input.size());
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<float>(i));
  const auto rows = [&](std::vector<float>& data) { return moue::matrix_view<float>{data.data(), tokens, width}; };

  float loss = 0;
  for (int step = 0; step < steps; ++step) {
    x = input;
    pass->begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass->forward(layer, rows(x), rows(y));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }
    loss = pass->balance();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float error = x[i] - std::abs(input[i]);
      loss += error * error / static_cast<float>(x.size());
      x[i] = 2 * error / static_cast<float>(x.size());  // from here on x holds its own gradient
    }
    pass->arm();
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass->backward(layer, rows(x), rows(dx), gradients);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += dx[i];
    }
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      if (gradients.live(i))
        for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
          weights[i].data[j] -= 0.5f * gradients[i].data[j];
    gradients.zero();
  }
  return loss;
}

}  // namespace

int main() {
  for (const char* name : {"universal", "local", "dense"}) {
    const auto model = make_model(name, 8);
    if (model == nullptr) {
      std::printf("%s: no such model\n", name);
      continue;
    }
    const float first = train(*model, 1), last = train(*model, 100);
    std::printf("%s: %td layers, %td experts, the loss fell by half: %s\n", name, model->layers(), model->experts(),
                last < first / 2 ? "yes" : "no");
  }
}
