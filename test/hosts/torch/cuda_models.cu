// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

#include <moue/adapt/torch/cuda.cuh>
#include <moue/any/erase.hpp>
#include <moue/policies.hpp>

#include "cuda_models.hpp"

namespace {

constexpr moue::swiglu expert{.width = 8, .hidden = 12};

}  // namespace

std::shared_ptr<const moue::any_model<double>> make_cuda_model() {
  return moue::erase<double>(moue::mixture{
      expert, moue::staggered_rotation{.depth = 3, .pool = 4, .window = 3, .stride = 1, .local = 1},
      moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.5}, moue::torch_cuda{}});
}

moue::torch_experts<double> make_cuda_experts() {
  return moue::torch_experts<double>(moue::executor{expert, 5, moue::torch_cuda{}});
}
