// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What a project that uses the library does: compose a mixture, run it forward and backward.

#include <moue/moue.hpp>
#include <vector>

int main() {
  static_assert(moue::version_major == 0);
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 6},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2), moue::universal_balance{}, moue::cpu{2}};
  const auto weights = model.initialize<float>(1);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = 8};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> data(8 * 4, 1);
  const moue::matrix_view<float> x{data.data(), 8, 4};
  pass.begin(8);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  const bool balanced = pass.balance() > 0;
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, x, x, gradients);

  bool touched = false;
  for (moue::index_t e = 0; e < model.experts(); ++e) touched = touched || gradients.touched(e);
  return balanced && touched ? 0 : 1;
}
