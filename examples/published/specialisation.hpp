// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Losses that make experts differ (Advancing Expert Specialization, arXiv 2505.22323): the outputs of a token's experts are to
// be orthogonal, and the gates of an expert are to vary over tokens.

#include <array>
#include <moue/policies.hpp>

#include "add_up.hpp"

namespace published {

/// One token: sum over ordered pairs of its experts of |projection of output a on output b|².
template <class C>
struct overlap_of_token {
  moue::layer_frame<C> frame;
  moue::matrix_view<C> value;  // [1, tokens], or null
  double weight, epsilon;
  const C* scale;  // of the gradient
  moue::matrix_view<C> add_output;

  MOUE_HD void operator()(moue::index_t t) const {
    const auto& plan = frame.plan;
    C sum = C(0);
    for (moue::index_t i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i)
      for (moue::index_t k = plan.token_offsets[t]; k < plan.token_offsets[t + 1]; ++k) {
        if (i == k || frame.outputs.empty()) continue;
        const auto a = frame.outputs.row(plan.token_rows[i]), b = frame.outputs.row(plan.token_rows[k]);
        C along = C(0), square = C(0);
        for (moue::index_t j = 0; j < a.size; ++j) {
          along += a[j] * b[j];
          square += b[j] * b[j];
        }
        const C below = square + C(epsilon);
        sum += along * along * square / (below * below);
        if (value.data != nullptr) continue;
        const C by_along = C(weight) * *scale * C(2) * along * square / (below * below);
        const C by_square = C(weight) * *scale * along * along * (C(1) - C(2) * square / below) / (below * below);
        for (moue::index_t j = 0; j < a.size; ++j) {
          add_output(plan.token_rows[i], j) += by_along * b[j];
          add_output(plan.token_rows[k], j) += by_along * a[j] + C(2) * by_square * b[j];
        }
      }
    if (value.data != nullptr) value(0, t) = C(weight) * sum;
  }
};
/// The sum over tokens.
struct orthogonality_loss {
  double weight = 1e-3;
  double epsilon = 1e-6;

  static constexpr bool sees_outputs = true;
  auto temporaries(moue::layer_shape shape) const { return std::array{moue::matrix_shape{1, shape.tokens}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    ops.each_row(frame.logits.rows, overlap_of_token<C>{frame, temporary[0], weight, epsilon, nullptr, {}});
    ops.each_row(1, add_up<C>{temporary[0], value});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto&) const {
    ops.each_row(frame.logits.rows, overlap_of_token<C>{frame, {}, weight, epsilon, scale.data, add.outputs});
  }
};

/// −1/n sum over tokens and candidates of (gate − mean gate of the candidate)², gates being 0 where not selected.
template <class C>
struct spread_of_gates {
  moue::layer_frame<C> frame;
  moue::matrix_view<C> mean;  // [1, n]
  double weight;
  C* value;        // of the loss, or null
  const C* scale;  // of its gradient
  moue::vector_view<C> add_gate;

  MOUE_HD void operator()(moue::index_t) const {
    C tokens = C(0), sum = C(0);
    for (moue::index_t j = 0; j < mean.cols; ++j) mean(0, j) = C(0);
    for (const auto valid : frame.batch.valid) tokens += C(valid);
    if (tokens == C(0)) tokens = C(1);
    each([&](moue::index_t, moue::index_t i, moue::index_t j) { mean(0, j) += frame.assigned.gate[i] / tokens; });
    const C factor = -C(weight) / C(mean.cols);
    each([&](moue::index_t, moue::index_t i, moue::index_t j) {
      const C gate = frame.assigned.gate[i];
      sum += gate * gate;
      if (value == nullptr) add_gate[i] += C(2) * factor * *scale * (gate - mean(0, j));
    });
    for (moue::index_t j = 0; j < mean.cols; ++j) sum -= tokens * mean(0, j) * mean(0, j);
    if (value != nullptr) *value = factor * sum;
  }
  template <class F>
  MOUE_HD void each(const F& f) const {
    for (moue::index_t t = 0; t < frame.logits.rows; ++t)
      for (moue::index_t i = frame.assigned.offsets[t]; i < frame.assigned.offsets[t + 1]; ++i)
        if (frame.assigned.expert[i] >= 0 && frame.assigned.column[i] >= 0) f(t, i, frame.assigned.column[i]);
  }
};
struct gate_variance_loss {
  double weight = 1e-3;

  auto temporaries(moue::layer_shape shape) const { return std::array{moue::matrix_shape{1, shape.candidates}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    ops.each_row(1, spread_of_gates<C>{frame, temporary[0], weight, value.data, nullptr, {}});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto& temporary) const {
    ops.each_row(1, spread_of_gates<C>{frame, temporary[0], weight, nullptr, scale.data, add.gates});
  }
};

}  // namespace published
