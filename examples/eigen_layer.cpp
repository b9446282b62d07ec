// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A network written in Eigen, whose tokens are columns, with universal experts between its own layers. Nothing is copied:
// the mixture reads and writes Eigen's matrices, and its weights and gradients are Eigen's too.

#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <moue/adapt/view_of.hpp>
#include <moue/moue.hpp>
#include <vector>

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  const moue::index_t width = 8, tokens = 32;
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 16},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 1},
                            moue::universal_router(2), moue::universal_balance{.weight = 0.01}};

  std::vector<row_major> values, slopes;
  std::vector<float*> value_pointers, slope_pointers;
  for (const auto& tensor : *model.layout()) {
    value_pointers.push_back(values.emplace_back(tensor.rows, tensor.cols).data());
    slope_pointers.push_back(slopes.emplace_back(tensor.rows, tensor.cols).data());
  }
  moue::parameters<float> weights(model.layout(), value_pointers);
  moue::gradients<float> gradients(model.layout(), slope_pointers);
  moue::initialize(weights, 7);
  moue::workspace scratch(model.workspace_bytes<float>({.tokens = tokens}));
  auto pass = model.start(weights, {.tokens = tokens}, scratch);

  const auto wave = [](Eigen::Index i, Eigen::Index token) { return std::sin(static_cast<float>(3 * token + i)); };
  const Eigen::MatrixXf input = Eigen::MatrixXf::NullaryExpr(width, tokens, wave);
  const Eigen::MatrixXf target = input.cwiseAbs();
  Eigen::MatrixXf x, y(width, tokens), d, dx(width, tokens);

  float first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    x = input;
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass.forward(layer, moue::view_of_columns(x), moue::view_of_columns(y));
      x += y;
    }
    last = (x - target).squaredNorm() / static_cast<float>(x.size());
    if (step == 0) first = last;

    d = 2 * (x - target) / static_cast<float>(x.size());
    pass.arm();
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass.backward(layer, moue::view_of_columns(d), moue::view_of_columns(dx), gradients);
      d += dx;
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      if (gradients.live(static_cast<moue::index_t>(i))) values[i] -= 0.5F * slopes[i];
    gradients.zero();
  }
  std::printf("after 200 steps the loss is a tenth of what it was: %s\n", last < first / 10 ? "yes" : "no");
}
