// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mixtures that together use every expert kind, router stage, loss and topology wrapper at least once. Each is
// instantiated once for all tests, in compositions_<backend>.cpp.

#include <string>
#include <string_view>
#include <vector>

#include "any_model.hpp"
#include "moue/router/compose.hpp"
#include "moue/topology/staggered_rotation.hpp"

namespace test {

/// What all compositions have in common.
struct recipe {
  moue::index_t width = 6;
  moue::index_t hidden = 5;
  moue::staggered_rotation ring{.depth = 3, .pool = 5, .window = 3, .stride = 2, .local = 1};
  moue::index_t k = 2;
  moue::index_t rank = 3;
  double decay = 0.5;
  double switch_weight = 0.3;
  double universal_weight = 0.4;
  double gamma = 0.7;
  moue::non_finite on_non_finite = moue::non_finite::propagate;
};

/// The names that `compose` knows.
const std::vector<std::string>& compositions();

}  // namespace test
