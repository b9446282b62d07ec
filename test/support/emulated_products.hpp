// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Products whose kernels the emulator runs.

#include "emulated_instructions.hpp"  // before the kernels
#include "product_trial.hpp"

namespace test {

/// What products need of a runtime.
struct emulated_launches {
  std::uint64_t seed = 1;
  moue::product_choice chosen = {};

  template <class... P, class... A>
  void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, const A&... arguments) const {
    emulator::expect_shared(shared, chosen.shared_bytes);
    emulator::launch(seed, kernel, grid, block, shared, arguments...);
    emulator::expect_no_copies();
  }
  moue::product_choice choice() const { return chosen; }
};

/// Kernels of tiles under the emulator, as `product_trial` runs them.
template <class Engine>
auto emulated_rows(std::uint64_t seed = 1) {
  return [seed](const auto& groups, auto x, const auto& w, auto y, auto mode) {
    gpu::launch_rows<Engine>(emulated_launches{seed}, gpu::one_product<Engine::right_by_depth>(groups, x, w, y, mode));
  };
}
template <class Engine>
auto emulated_gradient(std::uint64_t seed = 1) {
  return [seed](const auto& groups, auto dy, auto x, const auto& dw) {
    gpu::launch_gradient<Engine>(emulated_launches{seed}, gpu::one_gradient(groups, dy, x, dw));
  };
}

}  // namespace test
