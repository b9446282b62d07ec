// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Training on the CUDA backend, run by a host.

#include <doctest/doctest.h>

#include "allocations.hpp"
#include "emulated.hpp"
#include "moue/train/gradient_sweep.hpp"
#include "resident_training.hpp"

using namespace training;

TEST_CASE_TEMPLATE("adamw gives the host's bits", S, float, double, moue::bf16, moue::half) {
  check_same_as_host<S>(test::emulated{}, options);
}

TEST_CASE("adamw stays in the memory it was lent") { check_same_as_host<moue::bf16>(test::emulated_open{}, options); }

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
