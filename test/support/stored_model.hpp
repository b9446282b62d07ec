// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One composition in any storage type.

#include "moue/policies.hpp"
#include "recipe.hpp"

namespace test {

/// All candidates are taken, so that no rounding can move a selection.
inline const recipe everything{
    .width = 12, .hidden = 10, .ring = {.depth = 3, .pool = 5, .window = 3, .stride = 2, .local = 1}, .k = 4};

/// The composition "keyed_trajectory" in another storage type.
template <moue::Storage S, class Backend>
model_pointer<S> stored_as(Backend backend) {
  const auto& r = everything;
  return test::erase<S>(moue::mixture{moue::mlp<moue::silu>{r.width, r.hidden}, r.ring,
                                      moue::universal_router(r.k, {.rank = r.rank, .decay = r.decay}),
                                      moue::universal_balance{r.universal_weight, r.gamma}, backend});
}

}  // namespace test
