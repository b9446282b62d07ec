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

inline constexpr moue::index_t default_steps = 600;

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
inline double learning_rate_at(moue::index_t step, moue::index_t steps, moue::index_t warm_up, double peak) {
  constexpr double pi = 3.14159265358979323846;
  if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const double done =
      static_cast<double>(step - warm_up) / static_cast<double>(std::max<moue::index_t>(1, steps - warm_up));
  return peak * (0.1 + 0.45 * (1 + std::cos(pi * done)));
}

/// A new start of the learning rate in the middle of a run: a short linear warm-up to `factor` times the peak, then half a
/// cosine down to 10 % of that at the end of the run. A factor of 0 means none.
struct rate_restart {
  double factor = 0;
  moue::index_t warm_up = 20;  ///< steps
};

/// The learning rate of a run that was changed at step `changed`: the plain one before, and the restarted one from then on.
inline double restarted_rate_at(moue::index_t step, moue::index_t steps, moue::index_t warm_up, double peak,
                                moue::index_t changed, const rate_restart& restart) {
  if (step < changed || restart.factor == 0) return learning_rate_at(step, steps, warm_up, peak);
  return learning_rate_at(step - changed, steps - changed, restart.warm_up, restart.factor * peak);
}

}  // namespace language_model
