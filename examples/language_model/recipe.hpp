// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the contenders are trained with. Learning rate and warm-up were chosen for each contender from the same grid by
/// `moue_lm sweep`; sweep.md has its table.

#include <algorithm>
#include <cmath>

#include "moue/train/adamw.hpp"

namespace language_model {

inline constexpr moue::index default_steps = 600;

struct recipe {
  double learning_rate;  ///< after warm-up
  double warm_up;        ///< share of all steps
};

inline constexpr recipe tuned_moe{1.2e-2, 4.0 / 9};
inline constexpr recipe tuned_moe_shared{1.2e-2, 4.0 / 9};
inline constexpr recipe tuned_moue{1.2e-2, 2.0 / 9};

inline constexpr moue::adamw_options optimiser_options{
    .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-8, .weight_decay = 0.05};
inline constexpr double largest_gradient_norm = 1.0;
inline constexpr double balance_weight = 0.01;

/// Linear warm-up, then half a cosine down to 10 %.
inline double learning_rate_at(moue::index step, moue::index steps, moue::index warm_up, double peak) {
  constexpr double pi = 3.14159265358979323846;
  if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const double done =
      static_cast<double>(step - warm_up) / static_cast<double>(std::max<moue::index>(1, steps - warm_up));
  return peak * (0.1 + 0.45 * (1 + std::cos(pi * done)));
}

}  // namespace language_model
