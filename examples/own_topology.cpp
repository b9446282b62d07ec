// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A topology: three functions, checked at compile time, checked for its laws, and used.

#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>

/// Layers fold back at the middle: layer l and its mirror image reach the same `per_layer` experts.
struct mirrored {
  moue::index_t depth = 2;
  moue::index_t per_layer = 1;

  constexpr moue::index_t layers() const { return depth; }
  constexpr moue::index_t experts() const { return (depth + 1) / 2 * per_layer; }
  constexpr void candidates(moue::index_t layer, auto append) const {
    const moue::index_t mirror = depth - 1 - layer;
    const moue::index_t from = layer < mirror ? layer : mirror;
    for (moue::index_t i = 0; i < per_layer; ++i) append(from * per_layer + i);
  }
};
static_assert(moue::Topology<mirrored>);

// What the library derives from the three functions.
constexpr mirrored fold{.depth = 5, .per_layer = 2};
static_assert(moue::covers(fold));               // no expert is out of reach
static_assert(moue::exposure(fold, 0) == 2);     // layers 0 and 4
static_assert(moue::exposure(fold, 5) == 1);     // the middle layer alone
static_assert(moue::virtual_width(fold) == 10);  // five layers choose from two experts each
static_assert(moue::connects(fold, 3, 2) && !moue::connects(fold, 3, 0));

int main() {
  const auto report = moue::testing::check_topology_laws(fold);
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());

  const moue::mixture model{moue::swiglu{.width = 8, .hidden = 16}, fold, moue::linear_router(1)};
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
    std::printf("layer %td:", layer);
    for (const auto expert : model.connections().candidates(layer)) std::printf(" %d", expert);
    std::printf("\n");
  }
  return report ? 0 : 1;
}
