// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A layer loss that looks at all a layer loss sees.

#include <array>

#include "moue/layer_loss.hpp"

namespace test {

namespace seen {

using moue::index_t;

template <class C>
MOUE_HD C valid_tokens(const moue::layer_frame<C>& f) {
  index_t count = 0;
  for (const auto valid : f.batch.valid) count += valid;
  return C(count > 0 ? count : 1);
}

template <class C>
struct value {
  moue::layer_frame<C> f;
  moue::vector_view<C> out;
  moue::matrix_view<C> of_token;
  C weight;
  MOUE_HD void operator()(index_t) const {
    C sum = C(0);
    for (index_t t = 0; t < f.logits.rows; ++t) {
      of_token(0, t) = C(0);
      if (!f.batch.valid[t]) continue;
      for (index_t j = 0; j < f.logits.cols; ++j)
        of_token(0, t) += C(0.1) * f.logits(t, j) * f.logits(t, j) + f.probabilities(t, j) * f.probabilities(t, j);
      for (index_t j = 0; j < f.extra.cols; ++j) of_token(0, t) += C(0.2) * f.extra(t, j) * f.extra(t, j);
      for (index_t i = f.assigned.offsets[t]; i < f.assigned.offsets[t + 1]; ++i)
        if (f.assigned.expert[i] >= 0) of_token(0, t) += C(0.3) * f.assigned.gate[i] * f.assigned.gate[i];
      for (index_t i = f.plan.token_offsets[t]; i < f.plan.token_offsets[t + 1] && !f.outputs.empty(); ++i)
        for (index_t j = 0; j < f.outputs.cols; ++j) {
          const C y = f.outputs(f.plan.token_rows[i], j);
          of_token(0, t) += C(0.7) * y * y;
        }
      sum += of_token(0, t) * C(f.at.layer + 1);
    }
    out[0] = weight * sum / valid_tokens(f);
  }
};

template <class C>
struct gradient {
  moue::layer_frame<C> f;
  moue::vector_view<const C> scale;
  moue::routing_gradient<C> add;
  C weight;
  MOUE_HD void operator()(index_t) const {
    const C factor = weight * scale[0] * C(f.at.layer + 1) / valid_tokens(f);
    for (index_t t = 0; t < f.logits.rows; ++t) {
      if (!f.batch.valid[t]) continue;
      for (index_t j = 0; j < f.logits.cols; ++j) {
        add.logits(t, j) += factor * C(0.2) * f.logits(t, j);
        add.probabilities(t, j) += factor * C(2) * f.probabilities(t, j);
      }
      for (index_t j = 0; j < f.extra.cols; ++j) add.extra(t, j) += factor * C(0.4) * f.extra(t, j);
      for (index_t i = f.assigned.offsets[t]; i < f.assigned.offsets[t + 1]; ++i)
        if (f.assigned.expert[i] >= 0) add.gates[i] += factor * C(0.6) * f.assigned.gate[i];
      for (index_t i = f.plan.token_offsets[t]; i < f.plan.token_offsets[t + 1] && !f.outputs.empty(); ++i)
        for (index_t j = 0; j < f.outputs.cols; ++j)
          add.outputs(f.plan.token_rows[i], j) += factor * C(1.4) * f.outputs(f.plan.token_rows[i], j);
    }
  }
};

}  // namespace seen

/// The mean over valid tokens of (l + 1) (sum of z² / 10 + p² + e² / 5 + 3 g² / 10 + 7 y² / 10), over candidates, columns
/// beside them, entries that ran and outputs.
template <bool Outputs>
struct basic_seen_loss {
  double weight = 1;

  static constexpr bool sees_outputs = Outputs;
  auto temporaries(moue::layer_shape s) const { return std::array{moue::matrix_shape{1, s.tokens}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    ops.each_row(1, seen::value<C>{frame, value, temporary[0], C(weight)});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto&) const {
    ops.each_row(1, seen::gradient<C>{frame, scale, add, C(weight)});
  }
};

using seen_loss = basic_seen_loss<true>;

}  // namespace test
