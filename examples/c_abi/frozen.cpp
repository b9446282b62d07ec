// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A composition with parts that no list of names would have: experts of three kinds, and a router that remembers.

#include <moue/any/erase.hpp>
#include <moue/moue.hpp>

#include "models.hpp"

namespace {

/// Experts 6 and 7 do nothing: tokens that need no more work go there.
struct kind_of {
  constexpr moue::index_t operator()(moue::index_t expert) const { return expert < 4 ? 0 : expert < 6 ? 1 : 2; }
};

}  // namespace

shared_model make_frozen(moue::index_t width) {
  return moue::erase<float>(
      moue::mixture{moue::expert_pool{kind_of{}, moue::swiglu{.width = width, .hidden = 2 * width},
                                      moue::swiglu{.width = width, .hidden = width}, moue::zero_expert{.width = width}},
                    moue::shared_pool{.depth = 6, .pool = 8}, moue::universal_router(2, moue::trajectory{.rank = 4}),
                    moue::universal_balance{.weight = 0.01}});
}
