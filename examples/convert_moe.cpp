// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A trained mixture of experts gains connections between layers without changing a bit; they open while training goes
// on; and every layer gets private copies of what it reaches, again without changing a bit.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <moue/convert.hpp>
#include <moue/moue.hpp>
#include <moue/train/adamw.hpp>
#include <vector>

constexpr moue::index_t tokens = 64, width = 8;

/// The host: layers with residuals that learn a map no single linear layer can.
template <class MixtureT>
struct host {
  const MixtureT* model;
  moue::workspace scratch;
  std::vector<float> x, y, dx, share;
  float loss = 0;

  explicit host(const MixtureT& m)
      : model(&m), scratch(m.template workspace_bytes<float>({.tokens = tokens})), x(tokens * width), y(x), dx(x) {}

  moue::matrix_view<float> view(std::vector<float>& v) { return {v.data(), tokens, width}; }

  /// Forward and backward. Adds to `gradients`; x is the output, dx the input gradient, share the load of every column.
  void run(const moue::parameters<float>& weights, moue::gradients<float>& gradients) {
    auto pass = model->start(weights, {.tokens = tokens}, scratch);
    pass.begin(tokens);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * i % 211));
    const std::vector<float> input = x;
    for (moue::index_t layer = 0; layer < model->layers(); ++layer) {
      pass.forward(layer, view(x), view(y));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }
    loss = pass.balance();
    pass.arm();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float error = x[i] - std::abs(input[i]);
      loss += error * error / static_cast<float>(x.size());
      dx[i] = 2 * error / static_cast<float>(x.size());
    }
    for (moue::index_t layer = model->layers(); layer-- > 0;) {
      pass.backward(layer, view(dx), view(y), gradients);
      for (std::size_t i = 0; i < x.size(); ++i) dx[i] += y[i];
    }
    const auto load = pass.statistics().share;
    share.assign(load.begin(), load.end());
  }
};

const char* yes(bool holds) { return holds ? "yes" : "no"; }

int main() {
  const moue::mixture source{moue::mlp<moue::silu>{.width = width, .hidden = 8},
                             moue::layer_local{.depth = 3, .per_layer = 4}, moue::linear_router(2),
                             moue::universal_balance{.weight = 0.01}};
  auto old = source.initialize<float>(5);
  moue::adamw<float> first(old);
  moue::gradients<float> gradients(source.layout());
  host before(source);
  for (int step = 0; step < 100; ++step) {
    gradients.zero();
    before.run(old, gradients);
    first.step(old, gradients, 0.01);
  }
  gradients.zero();
  before.run(old, gradients);

  // Every expert becomes universal; each layer gains the experts of the others.
  const auto universal = moue::convert::all_experts{}(moue::convert::wiring::of(source.topology()));
  const auto plan = moue::convert::extend(source.topology(), universal, moue::shared_pool{.depth = 3, .pool = 12});
  const auto model = moue::convert::moe_to_moue(source, plan);
  auto weights = moue::convert::start(model, source, old, plan, moue::convert::home_row{});
  moue::adamw<float> optimiser(weights);
  moue::convert::carry(first, optimiser);
  std::printf("%td experts as before, %td connections gained\n", model.experts(), plan.connections());

  host after(model);
  moue::gradients<float> grown(model.layout());
  after.run(weights, grown);
  std::printf("closed: output, loss and input gradient have the same bits: %s\n",
              yes(after.x == before.x && after.loss == before.loss && after.dx == before.dx));

  const moue::convert::growing_pool schedule{.first = 0, .last = 80, .to = 0};
  const float start = after.loss;
  for (int step = 0; step < 160; ++step) {
    moue::convert::apply(schedule, step, weights);
    if (step % 40 == 0)
      std::printf("step %3d: every layer reaches %td of 8 experts of other layers\n", step, schedule.open(step, 8));
    grown.zero();
    after.run(weights, grown);
    optimiser.step(weights, grown, 0.01);
  }
  after.run(weights, grown);
  std::printf("the loss went on falling: %s\n", yes(after.loss < start));
  float foreign = 0;
  for (moue::index_t layer = 0; layer < model.layers(); ++layer)
    for (moue::index_t rank = 0; rank < 8; ++rank)
      foreign += after.share[static_cast<std::size_t>(model.connections().candidate_offset(layer) + plan.home + rank)];
  std::printf("layers send tokens to experts of other layers: %s\n", yes(foreign > 0));

  const auto copies = moue::convert::separate(model.topology());
  const auto plain = moue::convert::moue_to_moe(model, copies);
  moue::parameters<float> apart(plain.layout());
  moue::convert::carry_copies(model, weights, copies, apart);
  host back(plain);
  moue::gradients<float> separate_gradients(plain.layout());
  back.run(apart, separate_gradients);
  std::printf("%td private copies give the same output, to the bit: %s\n", plain.experts(), yes(back.x == after.x));
}
