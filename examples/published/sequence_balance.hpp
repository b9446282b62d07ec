// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// DeepSeek's balance inside each sequence (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20), and the controller of its bias
// (loss-free balancing, arXiv 2408.15664).

#include <array>
#include <cstdint>
#include <moue/policies.hpp>
#include <span>

#include "add_up.hpp"

namespace published {

/// One sequence's share of the loss: n / (k S²) sum_j (tokens that selected j) · (sum of p_j), S the sequence's tokens.
template <class C>
struct balance_of_sequence {
  moue::layer_frame<C> frame;
  moue::matrix_view<C> count;  // [sequences, n]
  moue::matrix_view<C> value;  // [1, sequences], or null
  double weight;
  const C* scale;  // of the gradient
  moue::matrix_view<C> add_probability;

  MOUE_HD moue::index_t begin(moue::index_t b) const {
    if (frame.batch.sequences.size > 0) return frame.batch.sequences[b];
    return b == 0 ? 0 : frame.logits.rows;
  }
  MOUE_HD void operator()(moue::index_t b) const {
    C tokens = C(0), sum = C(0);
    for (moue::index_t j = 0; j < count.cols; ++j) count(b, j) = C(0);
    for (moue::index_t t = begin(b); t < begin(b + 1); ++t) {
      tokens += C(frame.batch.valid[t]);
      for (moue::index_t i = 0; i < frame.selected.cols && frame.selected(t, i) >= 0; ++i)
        count(b, frame.selected(t, i)) += C(1);
    }
    if (tokens == C(0)) tokens = C(1);
    const C factor = C(weight) * C(count.cols) / (C(frame.selected.cols) * tokens * tokens * C(count.rows));
    for (moue::index_t t = begin(b); t < begin(b + 1); ++t)
      for (moue::index_t j = 0; j < count.cols && frame.batch.valid[t]; ++j) {
        sum += count(b, j) * frame.probabilities(t, j);
        if (value.data == nullptr) add_probability(t, j) += *scale * factor * count(b, j);
      }
    if (value.data != nullptr) value(0, b) = factor * sum;
  }
};

/// The mean over sequences; the whole batch is one if it does not say where they begin.
struct sequence_balance {
  double weight = 1e-4;
  moue::index_t most = 1;  ///< sequences of a batch

  auto temporaries(moue::layer_shape shape) const {
    return std::array{moue::matrix_shape{most, shape.candidates}, moue::matrix_shape{1, most}};
  }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    const auto n = sequences(frame);
    const auto parts = temporary[1].column_block(0, n);
    ops.each_row(n, balance_of_sequence<C>{frame, temporary[0].row_block(0, n), parts, weight, nullptr, {}});
    ops.each_row(1, add_up<C>{parts, value});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto& temporary) const {
    const auto n = sequences(frame);
    ops.each_row(
        n, balance_of_sequence<C>{frame, temporary[0].row_block(0, n), {}, weight, scale.data, add.probabilities});
  }

 private:
  template <class C>
  moue::index_t sequences(const moue::layer_frame<C>& frame) const {
    const moue::index_t n = frame.batch.sequences.size > 0 ? frame.batch.sequences.size - 1 : 1;
    if (n > most) throw moue::error("sequence_balance", "a batch has too many sequences", "set `most` to the largest");
    return n;
  }
};

/// After a step: b_j += rate · sign(mean demand − demand_j), of each layer's bias. `demand` are counts of that layer.
template <class S>
void update_bias(moue::matrix_view<S> bias, std::span<const std::int64_t> demand, double rate = 1e-3) {
  std::int64_t sum = 0;
  for (const auto d : demand) sum += d;
  for (moue::index_t j = 0; j < bias.cols; ++j) {
    const auto gap = sum - demand[static_cast<std::size_t>(j)] * bias.cols;  // compared as integers
    const double step = gap > 0 ? rate : gap < 0 ? -rate : 0;
    bias(0, j) = S(static_cast<double>(bias(0, j)) + step);
  }
}

}  // namespace published
