// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The per-layer load-balance loss of Switch Transformers.

#include "moue/balance.hpp"

namespace moue::inline v0_1 {

/// weight · mean over layers of n_l sum_e f_{l,e} P_{l,e}, with f the share of the layer's T k assignments (Fedus et al.,
/// arXiv 2101.03961; Megatron's and DeepSeek's normalisation). It is 1 at balance for any k. Other conventions: multiply
/// by k for Hugging Face's Mixtral and for GShard's form with a k-hot mask; divide by k for the FastMoE-derived gates.
struct switch_loss {
  double weight = 0.01;  ///< of the loss beside the host's

  template <class C, class Lanes = one_lane>
  MOUE_HD C value(const depth_statistics<C>& s, const Lanes& lanes = {}) const {
    C sum = C(0);
    for (index_t layer = 0; layer < s.layers; ++layer) {
      C inner = C(0);
      for (index_t i = s.offsets[layer] + lanes.first(); i < s.offsets[layer + 1]; i += lanes.step())
        inner += s.share[i] * s.probability[i];
      sum += C(s.open_candidates(layer, lanes)) * lanes.sum(inner);
    }
    return C(weight) * sum / C(s.layers);
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void gradient(const depth_statistics<C>& s, vector_view<C> d, const Lanes& lanes = {}) const {
    for (index_t layer = 0; layer < s.layers; ++layer) {
      const C factor = C(weight) * C(s.open_candidates(layer, lanes)) / C(s.layers);
      for (index_t i = s.offsets[layer] + lanes.first(); i < s.offsets[layer + 1]; i += lanes.step())
        d[i] += factor * s.share[i];
    }
  }
};

}  // namespace moue::inline v0_1
