// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One layer on a device, forward and backward: what compile_time.sh measures.

#include <moue/cuda.cuh>

void train(const moue::parameters<moue::bf16>& weights, moue::gradients<float>& gradients, moue::workspace& scratch,
           moue::matrix_view<moue::bf16> x, moue::matrix_view<moue::bf16> dx) {
  static const moue::mixture model{moue::swiglu{.width = 1024, .hidden = 512},
                                   moue::layer_local{.depth = 1, .per_layer = 64}, moue::linear_router(8),
                                   moue::switch_loss{}, moue::cuda()};
  auto pass = model.start(weights, {.tokens = x.rows}, scratch);
  pass.begin(x.rows);
  pass.forward(0, x, x);
  pass.queue_balance();
  pass.arm();
  pass.backward(0, dx, dx, gradients);
}
