// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What a project that keeps checkpoints does besides.

#include <moue/io.hpp>
#include <moue/moue.hpp>

int main() {
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 6},
                            moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2)};
  const auto weights = model.initialize<float>(1);
  moue::io::save("weights.safetensors", weights);
  auto loaded = model.initialize<float>(2);
  moue::io::load(moue::io::checkpoint("weights.safetensors"), loaded);
  return loaded["experts.5.up"](0, 0) == weights["experts.5.up"](0, 0) ? 0 : 1;
}
