// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The load-balance loss of Switch Transformers, layer by layer or pooled over layers.

#include "moue/balance.hpp"

namespace moue::inline v0_1 {

/// weight · mean over layers of n_l sum_e f_{l,e} P_{l,e}, with f the share of the layer's T k assignments (Fedus et al.,
/// arXiv 2101.03961; Megatron's and DeepSeek's normalisation). It is 1 at balance for any k. GShard's form with a k-hot
/// mask is k times that, the FastMoE-derived gates' is 1/k of it.
///
/// `pooled`: weight · n sum_j f_j P_j, with f_j and P_j the means over layers of what stands in column j, and n the columns
/// that are open at some layer. Layers may then be unbalanced in ways that cancel. Times k it is the loss that Hugging
/// Face's Mixtral family computes from the logits of all layers at once; with one layer the two forms are the same. Columns
/// are pooled by position, whichever experts they lead to, so that the order in which a layer lists its candidates matters:
/// to pool by expert, use `universal_balance`.
struct switch_loss {
  double weight = 0.01;  ///< of the loss beside the host's
  bool pooled = false;   ///< whether shares and probabilities are pooled over layers, as Hugging Face does

  template <class C, class Lanes = one_lane>
  MOUE_HD C value(const depth_statistics<C>& s, const Lanes& lanes = {}) const {
    if (pooled) {
      C inner = C(0);
      for (index_t j = lanes.first(), end = columns(s); j < end; j += lanes.step())
        inner += sum(s, j, s.share) * sum(s, j, s.probability);
      return pooled_factor(s, lanes) * lanes.sum(inner);
    }
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
    if (pooled) {
      const C factor = pooled_factor(s, lanes);
      for (index_t j = lanes.first(), end = columns(s); j < end; j += lanes.step()) {
        const C slope = factor * sum(s, j, s.share);
        for (index_t layer = 0; layer < s.layers; ++layer)
          if (has(s, layer, j)) d[s.offsets[layer] + j] += slope;
      }
      return;
    }
    for (index_t layer = 0; layer < s.layers; ++layer) {
      const C factor = C(weight) * C(s.open_candidates(layer, lanes)) / C(s.layers);
      for (index_t i = s.offsets[layer] + lanes.first(); i < s.offsets[layer + 1]; i += lanes.step())
        d[i] += factor * s.share[i];
    }
  }

 private:
  template <class C>
  MOUE_HD static bool has(const depth_statistics<C>& s, index_t layer, index_t column) {
    return column < s.offsets[layer + 1] - s.offsets[layer];
  }
  template <class C>
  MOUE_HD static index_t columns(const depth_statistics<C>& s) {
    index_t most = 0;
    for (index_t layer = 0; layer < s.layers; ++layer)
      while (has(s, layer, most)) ++most;
    return most;
  }
  /// What stands in a column, summed over the layers that have it.
  template <class C, class T>
  MOUE_HD static C sum(const depth_statistics<C>& s, index_t column, const vector_view<const T>& table) {
    C sum = C(0);
    for (index_t layer = 0; layer < s.layers; ++layer)
      if (has(s, layer, column)) sum += static_cast<C>(table[s.offsets[layer] + column]);
    return sum;
  }
  template <class C, class Lanes>
  MOUE_HD C pooled_factor(const depth_statistics<C>& s, const Lanes& lanes) const {
    index_t open = 0;
    for (index_t j = lanes.first(), end = columns(s); j < end; j += lanes.step())
      open += sum(s, j, s.open) > C(0) ? 1 : 0;
    return C(weight) * C(lanes.sum(open)) / C(s.layers * s.layers);
  }
};

}  // namespace moue::inline v0_1
