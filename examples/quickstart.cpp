// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <vector>

// A topology of one's own: layer l reaches `window` experts of a ring, from expert l on.
struct sliding {
  moue::index_t depth, pool, window;
  constexpr moue::index_t layers() const { return depth; }
  constexpr moue::index_t experts() const { return pool; }
  constexpr void candidates(moue::index_t layer, auto append) const {
    for (moue::index_t j = 0; j < window; ++j) append((layer + j) % pool);
  }
};

int main() {
  const moue::mixture model{moue::swiglu{.width = 16, .hidden = 32}, sliding{.depth = 4, .pool = 8, .window = 5},
                            moue::universal_router(2), moue::universal_balance{.weight = 0.01}};
  const auto weights = model.initialize<float>(7);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = 64};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> data(64 * 16);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i));
  const moue::matrix_view<float> x{data.data(), 64, 16};  // [tokens, width]; every call below works in place

  pass.begin(64);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  const float balance = pass.balance();
  pass.arm();  // the balancing loss takes part in what follows
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, x, x, gradients);

  moue::index_t reached = 0;
  for (moue::index_t e = 0; e < model.experts(); ++e) reached += gradients.touched(e) ? 1 : 0;
  std::printf("balance %.2f, experts reached %td of %td\n", balance, reached, model.experts());
}
