// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The universal expert load balance: one loss over the whole depth, corrected for exposure.

#include <cmath>

#include "moue/balance.hpp"

namespace moue::inline v0_1 {

/// weight · (sum_e c_e^gamma / L²) sum_e F_e G_e / c_e^gamma, where F_e and G_e sum share and mean probability over the
/// layers that reach expert e, and c_e is its exposure. gamma = 1 asks each expert to carry load in proportion to the
/// layers that can reach it; gamma = 0 asks for equal load. It is 1 at its balanced optimum, the mean Switch loss when
/// nothing is shared and layers have equal candidates, and is computed in the same step as the routing it judges. This
/// library's formulation (docs/method.md), not the equations of arXiv 2603.04971.
struct universal_balance {
  double weight = 0.01;  ///< of the loss beside the host's
  double gamma = 1;      ///< power of the exposure that shares are divided by; 0: no correction

  template <class C, class Lanes = one_lane>
  MOUE_HD C value(const depth_statistics<C>& s, const Lanes& lanes = {}) const {
    C sum = C(0);
    for (index_t e = lanes.first(); e < s.experts; e += lanes.step())
      if (s.exposure[e] > C(0)) sum += s.expert_share[e] * s.expert_probability[e] / correction(s.exposure[e]);
    return C(weight) * total(s, lanes) * lanes.sum(sum) / C(s.layers * s.layers);
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void gradient(const depth_statistics<C>& s, vector_view<C> d, const Lanes& lanes = {}) const {
    const C factor = C(weight) * total(s, lanes) / C(s.layers * s.layers);
    for (index_t i = lanes.first(); i < s.candidates.size; i += lanes.step()) {
      const index_t e = s.candidates[i];
      if (s.open[i] != 0) d[i] += factor * s.expert_share[e] / correction(s.exposure[e]);
    }
  }

 private:
  template <class C>
  MOUE_HD C correction(C exposure) const {
    using std::pow;
    return pow(exposure, C(gamma));
  }
  template <class C, class Lanes>
  MOUE_HD C total(const depth_statistics<C>& s, const Lanes& lanes) const {
    C sum = C(0);
    for (index_t e = lanes.first(); e < s.experts; e += lanes.step())
      if (s.exposure[e] > C(0)) sum += correction(s.exposure[e]);
    return lanes.sum(sum);
  }
};

}  // namespace moue::inline v0_1
