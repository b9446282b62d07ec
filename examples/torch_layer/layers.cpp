// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The one translation unit that knows the composition. It knows nothing of torch but its threads.

#include "layers.hpp"

#include <moue/adapt/torch/threads.hpp>
#include <moue/any/erase.hpp>
#include <moue/moue.hpp>

std::shared_ptr<const moue::any_model<float>> make_layers(moue::index_t width) {
  const moue::mixture layers{moue::swiglu{.width = width, .hidden = 2 * width},
                             moue::staggered_rotation{.depth = 4, .pool = 8, .window = 4, .stride = 2},
                             moue::universal_router(2), moue::universal_balance{.weight = 0.01}};
  return moue::erase<float>(layers.on(moue::cpu{moue::torch_threads{}}));
}
