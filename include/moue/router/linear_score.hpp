// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Linear logits.

#include <array>

#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// z_e = w_{l,e} · u with one row `weight` [candidates, width] per layer; no bias.
struct linear_score {
  double deviation = 0.02;  ///< of the initial weights

  auto parameters(router_shape s) const {
    return std::array{
        parameter_spec{"weight", s.candidates, s.width, initializer::normal(deviation), scope::layer, true, true}};
  }
  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    ops.linear(frame.features, p[0], frame.logits, store::add);
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto&, const auto& dp) const {
    ops.input_gradient(gradient.logits, p[0], gradient.features, store::add);
    ops.weight_gradient(gradient.logits, frame.features, dp[0]);
  }
};

}  // namespace moue::inline v0_1
