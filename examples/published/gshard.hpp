// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// GShard's capacity (Lepikhin et al., arXiv 2006.16668): gates are renormalised over the chosen pair, and then what does not
// fit is dropped; and its balancing loss, which counts first choices alone.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <moue/policies.hpp>

namespace published {

/// Every first choice queues before any second, tokens in order; who does not fit is dropped. `experts` already runs.
template <class C>
struct queue_up {
  moue::select_frame<C> frame;
  moue::matrix_view<const std::int32_t> selected;
  moue::matrix_view<std::int32_t> experts;
  moue::matrix_view<C> length;
  double factor;

  MOUE_HD void operator()(moue::index_t) const {
    C valid = C(0), open = C(0);
    for (const auto v : frame.batch.valid) valid += C(v);
    for (moue::index_t j = 0; j < length.cols; ++j) {
      length(0, j) = C(0);
      bool is_open = false;
      for (moue::index_t t = 0; t < frame.scores.rows && !is_open; ++t)
        is_open = frame.scores(t, j) > -std::numeric_limits<C>::infinity();
      open += is_open ? C(1) : C(0);
    }
    const C capacity = std::ceil(C(selected.cols) * valid * C(factor) / open);
    for (moue::index_t i = 0; i < selected.cols; ++i)
      for (moue::index_t t = 0; t < selected.rows; ++t) {
        if (selected(t, i) < 0) continue;
        C& place = length(0, selected(t, i));
        if (place >= capacity) experts(t, i) = -1;
        place += C(1);
      }
  }
};

/// The k best, of which each candidate runs at most `factor` times its even share. The layer's tokens see each other.
struct capacity_top_k {
  moue::index_t k = 2;
  double factor = 1;  ///< of the even share of the batch's assignments

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return std::min(candidates, k); }
  auto temporaries(moue::router_shape shape) const { return std::array{moue::matrix_shape{1, shape.candidates}}; }
  template <class C>
  MOUE_HD moue::index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                                   moue::vector_view<std::int32_t> selected) const {
    return moue::top_k{k}(scores, candidates, selected);
  }
  template <class C>
  void drop(const auto& ops, const moue::select_frame<C>& frame, moue::matrix_view<const std::int32_t> selected,
            moue::matrix_view<const C>, moue::matrix_view<std::int32_t> experts, const auto& temporary) const {
    ops.each_row(1, queue_up<C>{frame, selected, experts, temporary[0], factor});
  }
};

/// n sum_j (share of first choices)_j · (mean probability)_j.
template <class C>
struct first_choices {
  moue::layer_frame<C> frame;
  moue::matrix_view<C> count;
  double weight;
  C* value;        // of the loss, or null
  const C* scale;  // of its gradient
  moue::matrix_view<C> add_probability;

  MOUE_HD void operator()(moue::index_t) const {
    C tokens = C(0), sum = C(0);
    for (moue::index_t j = 0; j < count.cols; ++j) count(0, j) = C(0);
    for (moue::index_t t = 0; t < frame.selected.rows; ++t) {
      if (!frame.batch.valid[t]) continue;
      tokens += C(1);
      if (frame.selected(t, 0) >= 0) count(0, frame.selected(t, 0)) += C(1);
    }
    if (tokens == C(0)) tokens = C(1);
    const C factor = C(weight) * C(count.cols) / (tokens * tokens);
    for (moue::index_t t = 0; t < frame.probabilities.rows; ++t)
      for (moue::index_t j = 0; j < count.cols && frame.batch.valid[t]; ++j) {
        sum += count(0, j) * frame.probabilities(t, j);
        if (value == nullptr) add_probability(t, j) += *scale * factor * count(0, j);
      }
    if (value != nullptr) *value = factor * sum;
  }
};
struct first_choice_loss {
  double weight = 0.01;

  auto temporaries(moue::layer_shape shape) const { return std::array{moue::matrix_shape{1, shape.candidates}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value,
                   const auto& temporary) const {
    ops.each_row(1, first_choices<C>{frame, temporary[0], weight, value.data, nullptr, {}});
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto& temporary) const {
    ops.each_row(1, first_choices<C>{frame, temporary[0], weight, nullptr, scale.data, add.probabilities});
  }
};

}  // namespace published
