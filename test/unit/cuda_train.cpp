// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Training on the CUDA backend, run by a host.

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "../../examples/gpu_layer/regression.hpp"
#include "allocations.hpp"
#include "emulated.hpp"
#include "moue/backend/reference.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/gradient_sweep.hpp"
#include "resident_training.hpp"

using namespace training;

namespace {

struct trained {
  double loss = 0;
  moue::parameters<double> weights;
};

/// What the example trains, by plain loops on the host.
trained train_on_host(moue::index_t tokens, moue::index_t width, int steps) {
  const moue::mixture model{moue::mlp<moue::silu>{.width = width, .hidden = 2 * width},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01},
                            moue::reference{}};
  trained result{0, model.initialize<double>(11)};
  moue::gradients<double> gradients(model.layout());
  moue::adamw optimiser(result.weights, {.weight_decay = 0});
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(result.weights, options, scratch);
  std::vector<double> input, x, y, dx, dy;
  for (moue::index_t i = 0; i < tokens * width; ++i) input.push_back(std::sin(static_cast<double>(i * i % 211)));
  y = dx = dy = input;
  const auto view = [&](std::vector<double>& v) { return moue::matrix_view<double>{v.data(), tokens, width}; };
  const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  for (int step = 0; step < steps; ++step) {
    pass.begin(tokens);
    x = input;
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass.forward(layer, view(x), view(y));
      add(x, y);
    }
    result.loss = pass.balance();
    const double part = 1 / static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double error = x[i] - std::abs(input[i]);
      result.loss += error * error * part;
      dx[i] = 2 * error * part;
    }
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass.backward(layer, view(dx), view(dy), gradients);
      add(dx, dy);
    }
    moue::clip_gradients(gradients, 1.0);
    optimiser.step(result.weights, gradients, 0.01);
    gradients.reset();
  }
  return result;
}

}  // namespace

TEST_CASE("the example trains as plain loops on the host do") {
  for (const int steps : {1, 6}) {
    regression<test::emulated, double> there(test::emulated(), 21, 8);
    for (int step = 0; step < steps; ++step) there.step();
    const auto expected = train_on_host(21, 8, steps);
    CHECK(there.loss() == doctest::Approx(expected.loss).epsilon(1e-10));
    const auto weights = there.weights();
    // Sums of tens of terms in another order; AdamW divides small gradients by their own size.
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        CHECK(std::abs(weights[i].data[j] - expected.weights[i].data[j]) < 1e-9);
  }
}

TEST_CASE("a training step allocates nothing on the device, and threads in another order give the same bits") {
  const test::emulated backend(std::uint64_t{1}), other(std::uint64_t{99});
  regression<test::emulated, float> one(backend, 40, 8), two(other, 40, 8);
  one.step();  // sends tables
  two.step();
  const auto before = backend.runtime().allocations();  // on the host the emulator allocates for its threads
  for (int step = 0; step < 3; ++step) one.step();
  CHECK(backend.runtime().allocations() == before);
  for (int step = 0; step < 3; ++step) two.step();
  CHECK(same_bits(one.weights(), two.weights()));
  CHECK(one.loss() == two.loss());
}

TEST_CASE("adamw gives the host's bits, and stays in the memory it was given") {
  // The other types differ in nothing that a device would do otherwise; train_resident.cpp runs them all.
  check_same_as_host<moue::bf16>(test::emulated{}, options);
  check_same_as_host<moue::bf16>(test::emulated_open{}, options);
}

TEST_CASE("training steps allocate nothing, here or there") {
  moue::parameters<moue::bf16> weights(make_uneven_layout());
  resident<test::emulated, moue::bf16> there(test::emulated{}, weights);
  auto memory = there.memory(moue::adamw<moue::bf16>::workspace_bytes(*there.layout));
  auto more = there.memory(moue::gradient_sweep<float>::workspace_bytes(*there.layout));
  moue::adamw optimiser(there.backend, there.weights, there.grads, memory);
  const moue::gradient_sweep sweep(there.backend, there.grads, more);
  const auto ops = there.operations();
  const auto before = there.backend.runtime().allocations();
  const int host_before = test::allocations;
  sweep.clip(ops, 1);
  optimiser.step(ops, there.weights, there.grads, 0.1);
  sweep.zero(ops);
  CHECK(test::allocations == host_before);
  CHECK(there.backend.runtime().allocations() == before);
}
