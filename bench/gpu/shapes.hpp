// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is measured: layers of public models, and the least time that a chip could take for one.

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "moue/view.hpp"

namespace bench {

using moue::index_t;

struct shape {
  std::string_view name;
  index_t width, hidden, experts, k;

  double expert_weights() const { return 3.0 * static_cast<double>(width) * static_cast<double>(hidden); }
};

// Experts are halved until what a shape needs fits the device; the reports say how many were left.
inline constexpr std::array shapes{
    shape{"r-small", 256, 512, 16, 2},   shape{"olmoe", 2048, 1024, 64, 8},      shape{"qwen3-30b", 2048, 768, 128, 8},
    shape{"mixtral", 4096, 14336, 8, 2}, shape{"dsv3-like", 7168, 2048, 256, 8},
};
inline constexpr std::array<index_t, 5> token_counts{1, 16, 256, 4096, 32768};

/// Dense peak of the products' type and the bandwidth of its memory.
struct chip {
  double flops = 0;  // a second
  double bytes = 0;  // a second
};

/// What a SwiGLU layer cannot do without: arithmetic, and bytes between memory and chip if everything that can be fused
/// is. `hit` experts have rows.
struct work {
  double flops = 0;
  double bytes = 0;

  double floor_us(const chip& c) const { return 1e6 * std::max(flops / c.flops, bytes / c.bytes); }
  work operator+(const work& more) const { return {flops + more.flops, bytes + more.bytes}; }
};

/// Weights of the experts hit, inputs, outputs, and activations out and in. With a router, its product and its weights.
inline work forward_work(const shape& s, index_t tokens, index_t hit, double number_bytes, bool router) {
  const double t = static_cast<double>(tokens), rows = t * static_cast<double>(s.k);
  const double d = static_cast<double>(s.width), i = static_cast<double>(s.hidden);
  const double router_weights = router ? d * static_cast<double>(s.experts) : 0;
  return {6 * rows * d * i + 2 * t * router_weights,
          (static_cast<double>(hit) * s.expert_weights() + router_weights + 2 * t * d + 2 * rows * i) * number_bytes};
}

/// Twice the forward arithmetic. Weights of the experts hit, their gradients (`gradient_bytes` each, read and written since
/// they are added to), saved activations and gradients of rows.
inline work backward_work(const shape& s, index_t tokens, index_t hit, double number_bytes, double gradient_bytes,
                          bool router) {
  const double t = static_cast<double>(tokens), rows = t * static_cast<double>(s.k);
  const double d = static_cast<double>(s.width), i = static_cast<double>(s.hidden);
  const double router_weights = router ? d * static_cast<double>(s.experts) : 0;
  const double weights = static_cast<double>(hit) * s.expert_weights() + router_weights;
  return {12 * rows * d * i + 4 * t * router_weights,
          weights * number_bytes + 2 * weights * gradient_bytes + rows * (2 * d + 5 * i) * number_bytes};
}

}  // namespace bench
