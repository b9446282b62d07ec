// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A translation unit of a user: every header, and training steps, of more compositions with MOUE_TEST_MORE. It must
// compile without a warning where our own flags are not known, and run. run.sh writes every_header.hpp.

#include <cmath>
#include <cstdio>
#include <vector>

#include "every_header.hpp"

namespace {

constexpr moue::index_t tokens = 32, width = 8;

/// Steps of training; false if the loss is not finite or no expert got a gradient.
template <class S, class MixtureT>
bool trains(const MixtureT& model) {
  using C = moue::compute_t<S>;
  auto weights = model.template initialize<S>(3);
  moue::gradients<C> gradients(model.layout());
  moue::adamw<S> optimiser(weights);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<S>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<S> data(static_cast<std::size_t>(tokens * width));
  bool finite = true, reached = false;
  for (int step = 0; step < 2; ++step) {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = S(static_cast<C>(std::sin(static_cast<double>(i))));
    const moue::matrix_view<S> x{data.data(), tokens, width};
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
    finite = finite && std::isfinite(pass.balance());
    for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, x, x, gradients);
    for (moue::index_t e = 0; e < model.experts(); ++e) reached = reached || gradients.touched(e);
    optimiser.step(weights, gradients, 0.01);
    gradients.zero();
  }
  return finite && reached;
}

template <class S>
bool shared() {
  return trains<S>(moue::mixture{moue::swiglu{.width = width, .hidden = 12},
                                 moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                                 moue::universal_router(2), moue::universal_balance{}, moue::cpu{2}});
}
#ifdef MOUE_TEST_MORE
template <class S>
bool plain() {
  return trains<S>(moue::mixture{moue::mlp<moue::gelu>{.width = width, .hidden = 12},
                                 moue::table::of(moue::layer_local{.depth = 2, .per_layer = 4}), moue::linear_router(2),
                                 moue::switch_loss{}});
}
#endif

}  // namespace

int main() {
  bool all = shared<float>();
#ifdef MOUE_TEST_MORE
  all = all && plain<double>() && plain<moue::bf16>();
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 12}, moue::layer_local{.depth = 2, .per_layer = 2},
                            moue::linear_router(1)};
  auto weights = model.initialize<moue::bf16>(5);
  moue::io::save("user.safetensors", weights);
  moue::io::load(moue::io::checkpoint("user.safetensors"), weights);
#endif
  std::puts(all ? "trained" : "failed");
  return all ? 0 : 1;
}
