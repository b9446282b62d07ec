// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The one translation unit that knows compositions, and the only one that compiles them.

#include "model.hpp"

#include <moue/any/erase.hpp>
#include <moue/moue.hpp>

std::shared_ptr<const moue::any_model<float>> make_model(std::string_view name, moue::index_t width) {
  const moue::swiglu expert{.width = width, .hidden = 2 * width};
  if (name == "universal")
    return moue::erase<float>(moue::mixture{expert,
                                            moue::staggered_rotation{.depth = 4, .pool = 8, .window = 4, .stride = 2},
                                            moue::universal_router(2), moue::universal_balance{.weight = 0.01}});
  if (name == "local")
    return moue::erase<float>(moue::mixture{expert, moue::layer_local{.depth = 4, .per_layer = 4},
                                            moue::linear_router(2), moue::switch_loss{.weight = 0.01}});
  return nullptr;
}
